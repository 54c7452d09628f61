package node_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/clustertest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// receiver is what a webhook is sent to.
type receiver struct {
	*httptest.Server
	t      *testing.T
	secret []byte

	mu    sync.Mutex
	tries []delivery
	next  func(http.ResponseWriter, *http.Request) // answers; nil takes everything
}

type delivery struct {
	id    string
	event wire.OutcomeEvent
}

func newReceiver(t *testing.T, secret []byte) *receiver {
	r := &receiver{t: t, secret: secret}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP verifies what comes as Standard Webhooks says.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // its sender was killed
	}
	d := delivery{id: req.Header.Get("webhook-id")}
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprintf(mac, "%s.%s.%s", d.id, req.Header.Get("webhook-timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); req.Header.Get("webhook-signature") != want {
		r.t.Errorf("webhook-signature %q, want %q", req.Header.Get("webhook-signature"), want)
	}
	if err := json.Unmarshal(body, &d.event); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	r.tries = append(r.tries, d)
	next := r.next
	r.mu.Unlock()
	if next != nil {
		next(w, req)
	}
}

func (r *receiver) answer(next func(http.ResponseWriter, *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = next
}

func (r *receiver) got() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]delivery(nil), r.tries...)
}

// TestWebhook kills the node that is about to tell an outcome: another one tells
// it, again and again while the receiver fails, under the same id.
func TestWebhook(t *testing.T) {
	t.Parallel()
	clustertest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		secret := []byte("test-only secret of a webhook")
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newReceiver(t, secret)
		dead := make(chan struct{})
		r.answer(func(http.ResponseWriter, *http.Request) { <-dead }) // until its sender is
		c := newCluster(t, rdb, prefix, "--webhook", r.URL+"/hooks/s3cret-path", "--webhook-secret-file", file)
		doomed := c.start()
		alice := c.token("alice", wire.RoleCoordinator)
		_, task := c.call(doomed, "POST", "/v1/keys?start=true", alice, object{"threshold": 2, "participants": []string{"bob", "carol"}})
		id := fmt.Sprint(task["session_id"])
		if status, answer := c.call(doomed, "DELETE", "/v1/sessions/"+id, alice, nil); status != http.StatusOK {
			t.Fatalf("cancel: %d %v", status, answer)
		}
		eventually(t, "the outcome is being told", func() bool { return len(r.got()) > 0 })
		doomed.kill()
		failed := 0
		r.answer(func(w http.ResponseWriter, _ *http.Request) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if failed++; failed <= 2 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		close(dead)
		c.start()
		eventually(t, "it is told in spite of all", func() bool { return len(r.got()) == 4 })
		eventually(t, "it is done with", func() bool {
			return rdb.ZScore(context.Background(), prefix+"webhooks", id).Val() < 0
		})
		tries := r.got()
		for _, d := range tries {
			if d.id == "" || d.id != tries[0].id || d.event.Type != "keygen.cancelled" || d.event.Data.SessionID != id || !d.event.Timestamp.Equal(d.event.Data.EndedAt) {
				t.Errorf("told %+v", d)
			}
		}
		if len(tries) != 4 {
			t.Errorf("told %d times", len(tries))
		}
		for _, secret := range []string{"s3cret-path", string(secret)} {
			if strings.Contains(c.logs.String(), secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
}
