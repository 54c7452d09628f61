package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hungListener is a server that accepts connections and never answers, like a node
// whose process has been stopped.
func hungListener(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

// TestUnreached: if no server can be reached, for whatever reason, every command
// ends with status 5, after reachWithin at the latest.
func TestUnreached(t *testing.T) {
	t.Parallel()
	hung, closed := hungListener(t)+","+hungListener(t), "http://127.0.0.1:1"
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(down.Close)
	sign := []string{"sign", "key-1", "--data", "x", "--address", "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"}
	for name, tc := range map[string]struct {
		url   string
		args  []string
		waits bool // for reachWithin, not only for a refused connection
	}{
		"login, hung":                  {"", []string{"login", hung, "alice"}, true},
		"login, closed":                {"", []string{"login", closed, "alice"}, false},
		"keys, hung":                   {hung, []string{"keys"}, true},
		"keys, all nodes down":         {down.URL, []string{"keys"}, false},
		"presence, hung":               {hung, []string{"presence", "bob"}, true},
		"sessions watch, hung":         {hung, []string{"sessions", "watch", "sg-1"}, true},
		"sessions watch, all down":     {down.URL, []string{"sessions", "watch", "sg-1"}, true},
		"sign, hung":                   {hung, sign, true},
		"sign, closed":                 {closed, sign, true},
		"sign, all nodes down":         {down.URL, sign, true},
		"sign, address unknown, hung":  {hung, []string{"sign", "key-1", "--data", "x"}, true},
		"keygen, closed":               {closed, []string{"keygen", "bob", "carol"}, true},
		"audit, hung":                  {hung, []string{"audit", "verify"}, true},
		"keygen, all pinned, one dead": {closed + "," + hung, []string{"keygen", "bob", "carol"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"CONCLAVE_HOME": filepath.Join(t.TempDir(), "home"), "CONCLAVE_TOKEN": "h.eyJzdWIiOiJhbGljZSJ9.sig", "CONCLAVE_URL": tc.url}
			var stdout, stderr strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c := newCLI(strings.NewReader("open sesame\n"), &stdout, &stderr, func(name string) string { return env[name] })
			c.reachWithin = time.Second // no server will come up later
			status := c.main(ctx, tc.args, &stderr)
			says := "no server was reached within 1s"
			if status != exitUnreachable || ctx.Err() != nil || tc.waits != strings.Contains(stderr.String(), says) {
				t.Errorf("status %d, %v, and on stderr, want %q %t:\n%s", status, ctx.Err(), says, tc.waits, stderr.String())
			}
		})
	}
}

// TestReachIsShort: the limit that PARTICIPANTS promises, with room for a slow
// machine.
func TestReachIsShort(t *testing.T) {
	t.Parallel()
	if c := newCLI(nil, nil, io.Discard, func(string) string { return "" }); c.reachWithin <= 0 || c.reachWithin > 14*time.Second {
		t.Errorf("a server is looked for %s, want less than 15s", c.reachWithin)
	}
}

// TestReachedMayWait: once a server has answered, the time limit is off.
func TestReachedMayWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &reach{within: time.Millisecond, end: cancel}
	r.reached()
	r.seek([]string{"http://127.0.0.1:1"})
	if r.timer != nil || ctx.Err() != nil {
		t.Error("the command is ended though a server was reached")
	}
}
