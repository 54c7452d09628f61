package e2e_test

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
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// receiver is the server that a webhook is sent to.
type receiver struct {
	*httptest.Server
	t      *testing.T
	secret []byte

	mu    sync.Mutex
	tries []delivery
	next  func(http.ResponseWriter, *http.Request) // answers; nil accepts everything
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

// ServeHTTP verifies requests as Standard Webhooks says.
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

// flags returns the settings for r.
func (r *receiver) flags() []string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(r.secret)+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return []string{"--webhook", r.URL + "/hooks/s3cret-path", "--webhook-secret-file", file}
}

// cancelled begins a keygen in alice's name, cancels it, and returns its session.
func (c *testCluster) cancelled(n *process, alice string) (id string) {
	c.t.Helper()
	_, task := c.call(n, "POST", "/v1/keys?start=true", alice, object{"threshold": 2, "participants": []string{"bob", "carol"}})
	id = fmt.Sprint(task["session_id"])
	if status, answer := c.call(n, "DELETE", "/v1/sessions/"+id, alice, nil); status != http.StatusOK {
		c.t.Fatalf("cancel: %d %v", status, answer)
	}
	return id
}

// TestWebhookAnswers: an outcome that its receiver refuses is not retried, one that
// it defers is not sent before that time, and both are sent again on demand, through
// any node.
func TestWebhookAnswers(t *testing.T) {
	inTurn(t, "webhooks and keys", 0, 3)
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx := context.Background()
		r := newReceiver(t, []byte("test-only secret of a webhook"))
		c := newCluster(t, rdb, prefix, r.flags()...)
		n, other := c.start(), c.start()
		alice, bob, root := c.token("alice", wire.RoleCoordinator), c.token("bob", wire.RoleParticipant), c.token("root", wire.RoleAdmin)
		answer := func(status int, after string) {
			r.answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(status)
			})
		}
		score := func(id string) float64 { return rdb.ZScore(ctx, prefix+"webhooks", id).Val() }
		last := func() (d delivery) {
			if all := r.got(); len(all) > 0 {
				d = all[len(all)-1]
			}
			return d
		}

		answer(http.StatusGone, "")
		gone := c.cancelled(n, alice)
		eventually(t, "an outcome that is not wanted is done with", func() bool { return score(gone) < 0 })
		first := last()
		c.at(1, "conclave_webhook_given_up_total", "reason=gone")

		answer(http.StatusServiceUnavailable, "1800")
		begun := time.Now()
		later := c.cancelled(n, alice)
		eventually(t, "an outcome waits for as long as was asked", func() bool {
			at := time.UnixMilli(int64(score(later)))
			return at.After(begun.Add(29*time.Minute)) && at.Before(begun.Add(45*time.Minute))
		})
		c.at(2, "conclave_webhook_tries_total", "result=failed")
		c.at(2, "conclave_webhook_pending_outcomes") // each of two nodes counts all
		eventually(t, "its age is told", func() bool { return c.value("conclave_webhook_oldest_seconds") > 0 })

		answer(http.StatusNoContent, "")
		tried := len(r.got())
		for _, who := range []struct {
			token string
			want  int
		}{{bob, http.StatusForbidden}, {c.token("mallory", wire.RoleCoordinator), http.StatusNotFound}} {
			if status, answer := c.call(n, "POST", "/v1/sessions/"+gone+"/webhook", who.token, nil); status != who.want {
				t.Errorf("sent again: %d %v, want %d", status, answer, who.want)
			}
		}
		if status, answer := c.call(other, "POST", "/v1/sessions/"+gone+"/webhook", alice, nil); status != http.StatusAccepted {
			t.Fatalf("sent again: %d %v", status, answer)
		}
		eventually(t, "what was given up is sent again", func() bool { return len(r.got()) == tried+1 })
		if d := last(); d.id != first.id || d.event.Data.SessionID != gone {
			t.Errorf("sent again as %s, of %s; the first time as %s", d.id, d.event.Data.SessionID, first.id)
		}
		if status, answer := c.call(other, "POST", "/v1/sessions/"+later+"/webhook", root, nil); status != http.StatusAccepted {
			t.Fatalf("sent again by an admin: %d %v", status, answer)
		}
		eventually(t, "what waited is sent before its time, and done with", func() bool { return score(later) < 0 && last().event.Data.SessionID == later })
		c.at(2, "conclave_webhook_tries_total", "result=delivered")
		eventually(t, "nothing waits", func() bool {
			return c.value("conclave_webhook_pending_outcomes") == 0 && c.value("conclave_webhook_oldest_seconds") == 0
		})
		if left := rdb.ZCard(ctx, prefix+"webhooks:since").Val(); left != 0 {
			t.Errorf("%d entries of outcomes that do not wait", left)
		}
	})
}

// TestWebhook kills the node that is about to deliver an outcome: another one
// delivers it, repeatedly while the receiver fails, under the same id.
func TestWebhook(t *testing.T) {
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		secret := []byte("test-only secret of a webhook")
		r := newReceiver(t, secret)
		dead := make(chan struct{})
		r.answer(func(http.ResponseWriter, *http.Request) { <-dead }) // until its sender is killed
		c := newCluster(t, rdb, prefix, r.flags()...)
		doomed := c.start()
		alice := c.token("alice", wire.RoleCoordinator)
		id := c.cancelled(doomed, alice)
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
