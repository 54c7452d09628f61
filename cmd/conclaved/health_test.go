package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestHealth asks a server that is ready, is not ready, speaks TLS, or is gone. The
// node's own /readyz is tested with the node.
func TestHealth(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(int(status.Load()))
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	cert := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(plain.URL, "http://")
	port := address[strings.LastIndex(address, ":"):]
	ask := func(env map[string]string, want int, says string, args ...string) {
		t.Helper()
		got, stdout, stderr := try(t, env, "", append([]string{"health"}, args...)...)
		if got != want || !strings.Contains(stdout+stderr, says) {
			t.Errorf("health %v: status %d, %q; want %d and %q", args, got, stdout+stderr, want, says)
		}
	}
	status.Store(http.StatusOK)
	ask(map[string]string{"CONCLAVE_LISTEN": address}, 0, "ready")
	ask(nil, 0, "ready", "--listen", "0.0.0.0"+port)
	ask(nil, 0, "ready", "--listen", port)
	ask(nil, 0, "ready", "--listen", strings.TrimPrefix(secure.URL, "https://"), "--tls-cert", cert)
	ask(nil, 2, "unexpected argument", "now")
	ask(nil, 2, "--listen", "--listen", "nowhere")
	status.Store(http.StatusServiceUnavailable)
	ask(map[string]string{"CONCLAVE_LISTEN": address}, 1, "not ready: /readyz returned 503")
	plain.Close()
	ask(map[string]string{"CONCLAVE_LISTEN": address}, 1, "does not answer")
}
