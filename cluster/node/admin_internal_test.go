package node

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestProfilesAreLocal: who asks from another machine gets no profile, wherever
// the admin listener is.
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
		r.Header.Set("X-Forwarded-For", "127.0.0.1") // anybody can say that
		w := httptest.NewRecorder()
		profiles.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %q: status %d, want %d", from, w.Code, want)
		}
	}
}
