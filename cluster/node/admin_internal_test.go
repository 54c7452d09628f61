package node

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestProfilesAreLocal: requests from another machine get no profile, wherever the
// admin listener is.
func TestProfilesAreLocal(t *testing.T) {
	t.Parallel()
	profiles := onlyLocal(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for from, want := range map[string]int{
		"127.0.0.1:4242": http.StatusOK, "127.8.8.8:1": http.StatusOK, "[::1]:4242": http.StatusOK, "[::ffff:127.0.0.1]:1": http.StatusOK,
		"10.0.0.7:4242": http.StatusForbidden, "[2001:db8::1]:4242": http.StatusForbidden, "[::ffff:10.0.0.7]:1": http.StatusForbidden,
		"0.0.0.0:1": http.StatusForbidden, "": http.StatusForbidden, "@": http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil)
		r.RemoteAddr = from
		r.Header.Set("X-Forwarded-For", "127.0.0.1") // any client can send that
		w := httptest.NewRecorder()
		profiles.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %q: status %d, want %d", from, w.Code, want)
		}
	}
}

// TestAdminHosts: the admin listener answers requests that name it by an address or
// by a configured name, and no page of a web site whose name resolves to it.
func TestAdminHosts(t *testing.T) {
	t.Parallel()
	n := &Node{cfg: Config{AdminAddr: "metrics.internal:9090", AdminHosts: []string{"conclave-n1.monitoring", "N2.example:9090"}}}
	guarded := n.onlyHosts(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{
		"127.0.0.1:9090": http.StatusOK, "10.42.0.7": http.StatusOK, "[::1]:9090": http.StatusOK, "[fd00::7]": http.StatusOK, "fd00::7": http.StatusOK,
		"localhost:9090": http.StatusOK, "LocalHost.": http.StatusOK, "metrics.internal:9090": http.StatusOK, "": http.StatusOK,
		"conclave-n1.monitoring:9090": http.StatusOK, "conclave-n1.monitoring.": http.StatusOK, "n2.example": http.StatusOK,
		"evil.example": http.StatusForbidden, "evil.example:9090": http.StatusForbidden, "localhost.evil.example": http.StatusForbidden,
		"127.0.0.1.evil.example:9090": http.StatusForbidden, "metrics.internal.evil.example": http.StatusForbidden, "127.1": http.StatusForbidden,
	} {
		for _, path := range []string{"/metrics", "/debug/pprof/heap", "/healthz"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			guarded.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s of host %q: status %d, want %d", path, host, w.Code, want)
			}
		}
	}
	if bare := (&Config{AdminAddr: ":9090"}); bare.adminHost("evil.example") || !bare.adminHost("10.0.0.1:9090") {
		t.Error("a listener on all addresses answers any host")
	}
}
