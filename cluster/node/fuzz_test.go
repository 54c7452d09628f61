package node

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// FuzzRedisURL: no URL panics, and no error repeats a password.
func FuzzRedisURL(f *testing.F) {
	for _, seed := range []string{
		"redis://127.0.0.1:6379/0", "rediss://user:p4ss%20word@db:6380/3?dial_timeout=5s", "unix:///run/redis.sock?db=1",
		"redis+sentinel://u:p4ss%2Fword@a:1,b:2/master/4", "redis+cluster://a:1,b:2", "redis+cluster://:p@a/x", "redis+sentinel://a:1",
		"redis+sentinel://a:1/m?sentinel_username=w&sentinel_password=s3cret%2Fword", "redis+sentinel://a:1/m?sentinel_password=%zz", "redis://:pa/ss@a:6379/0",
		"redis://u:12/34word@a:6379/0", "redis://u:12?dial_timeout=word@a", "redis://[::1", "redis+sentinel://a/m/-1", "redis+sentinel://%zz@a/m", "://", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rdb, err := newRedis(Config{Redis: text})
		if err == nil {
			if rdb == nil {
				t.Fatal("neither a client nor an error")
			}
			_ = rdb.Close()
			return
		}
		_, rest, _ := strings.Cut(text, "://")
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			if _, pass, _ := strings.Cut(rest[:at], ":"); len(pass) > 5 && strings.Contains(err.Error(), pass) {
				t.Errorf("the error repeats a password: %v", err)
			}
		}
	})
}

// TestRedisURLParts: a password that is not encoded is split by parsers, which
// quote the invalid part.
func TestRedisURLParts(t *testing.T) {
	for text, secret := range map[string]string{
		"redis://:hunter/twenty@127.0.0.1:6379/0":            "hunter",
		"redis://:1234/twenty@127.0.0.1:6379/0":              "twenty",
		"redis://u:1234?twenty@127.0.0.1:6379/0":             "twenty",
		"redis://u:hunter%zz@127.0.0.1:6379/0":               "hunter",
		"redis+sentinel://a:1/m?hunter=1":                    "hunter",
		"redis+sentinel://a:1/m?sentinel_password=hunter%zz": "hunter",
		"rediss://u:hun#twenty@127.0.0.1:6379/0":             "twenty",
	} {
		rdb, err := newRedis(Config{Redis: text})
		if err == nil {
			_ = rdb.Close()
			t.Errorf("%s is taken", text)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error for %s repeats a part of its password: %v", text, err)
		}
	}
}

// TestSentinelPassword: Sentinels' own password is sent to them.
func TestSentinelPassword(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t, 0)
	for _, w := range s.Watchers {
		one := redis.NewClient(&redis.Options{Addr: w.Addr(), DisableIdentity: true, Protocol: 2})
		defer one.Close()
		if err := one.Do(t.Context(), "ACL", "SETUSER", "default", "on", "resetpass", ">s3cret/word").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for query, works := range map[string]bool{"?sentinel_password=s3cret%2Fword": true, "?sentinel_username=default&sentinel_password=s3cret%2Fword": true, "": false, "?sentinel_password=another": false} {
		rdb, err := newRedis(Config{Redis: s.URL() + query})
		if err != nil {
			t.Fatal(err)
		}
		defer rdb.Close()
		if err := rdb.Ping(t.Context()).Err(); (err == nil) != works {
			t.Errorf("with %q: got %v", query, err)
		}
	}
}

// FuzzHTTP sends a node's web API any request, with or without a user's token. Each
// is answered in JSON, and none causes a server error.
func FuzzHTTP(f *testing.F) {
	db, err := miniredis.Run()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(db.Close)
	const secret = "test-only secret of 32 bytes or more"
	n, err := New(Config{Redis: "redis://" + db.Addr(), Listen: "127.0.0.1:0", JWTSecret: []byte(secret), DrainSpread: time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	if err := n.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = n.Stop(context.Background()) })
	tokens, err := auth.NewHS256([]byte(secret), "", "")
	if err != nil {
		f.Fatal(err)
	}
	token, _, err := tokens.Issue("alice", []wire.Role{wire.RoleCoordinator, wire.RoleParticipant}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	methods := []string{"GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"}
	f.Add(byte(1), "/v1/login", `{"username":"alice","password":"x"}`, "")
	f.Add(byte(1), "/v1/keys?start=true", `{"threshold":2,"participants":["bob","carol"],"curve":"ed25519"}`, token)
	f.Add(byte(1), "/v1/keys", `{"threshold":2,"total_parts":3,"participants":["bob","carol"]}`, token)
	f.Add(byte(1), "/v1/keys/key-1/signatures", `{"data":"0x12","hash":"sha256","participants":["bob"]}`, token)
	f.Add(byte(0), "/v1/keys?limit=2&before=2026-01-02T03:04:05Z", "", token)
	f.Add(byte(0), "/v1/sessions/%7Ba%7D", "", token)
	f.Add(byte(0), "/v1/sessions?limit=-1", "", token)
	f.Add(byte(2), "/v1/sessions/sg-1", "", token)
	f.Add(byte(0), "/readyz", "", "")
	f.Add(byte(0), "/v1/keys", "", "eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, method byte, path, body, token string) {
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/ws") {
			return
		}
		r, err := http.NewRequestWithContext(context.Background(), methods[int(method)%len(methods)], "http://node"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		n.server.Handler.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError && path != "/readyz" {
			t.Errorf("%s %q: status %d: %s", r.Method, path, w.Code, w.Body)
		}
		if kind := w.Header().Get("Content-Type"); strings.Contains(kind, "json") && r.Method != http.MethodHead && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: the answer is no JSON: %s", r.Method, path, w.Body)
		}
	})
}
