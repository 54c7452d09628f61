package metrics

import (
	"context"
	"errors"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestTypesAndCodes compares the labels' values with package wire: additions there
// must not be counted as unknown.
func TestTypesAndCodes(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	err := filepath.WalkDir("../../../wsconn/wire", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := goparser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			kind, _ := v.Type.(*ast.Ident)
			literal, ok := v.Values[0].(*ast.BasicLit)
			if kind == nil || !ok {
				return true
			}
			value, _ := strconv.Unquote(literal.Value)
			switch kind.Name {
			case "Type":
				if found["types"]++; wire.Type(value).FromClient() != slices.Contains(Types, wire.Type(value)) {
					t.Errorf("type %s", value)
				}
			case "Code":
				if found["codes"]++; !codes[wire.Code(value)] {
					t.Errorf("code %s", value)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || found["types"] < 20 || found["codes"] != len(codes) {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestHandledOddities(t *testing.T) {
	t.Parallel()
	m := New("0.0.0")
	m.Handled("unknown", "", 0)
	m.Handled("whatever", "a code of tomorrow", 0)
	m.Closed(3999)
	m.Written(nil, time.Now().Add(time.Hour)) // by a clock that is ahead
	m.Written(nil, time.Time{})               // unknown
	for text, got := range map[string]float64{
		"unknown":   testutil.ToFloat64(m.ofUnknown.ok),
		"whatever":  testutil.ToFloat64(m.messages.WithLabelValues("unknown", "other")),
		"code 3999": testutil.ToFloat64(m.closed["other"]),
	} {
		if got != 1 {
			t.Errorf("%s was counted %g times", text, got)
		}
	}
	for _, err := range []error{nil, cluster.ErrLocked, context.Canceled, errors.New("redis is away")} {
		m.Locked(time.Millisecond, err)
	}
	m.LockLost()
	for reason, want := range map[string]float64{"held": 1, "cancelled": 1, "unavailable": 1, "lost": 1} {
		if got := testutil.ToFloat64(m.lockFailures.WithLabelValues(reason)); got != want {
			t.Errorf("%s: %g, want %g", reason, got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(m.Gatherer()); err != nil || len(problems) > 0 {
		t.Errorf("Prometheus's own lint: %v, %v", problems, err)
	}
}

// said is a Redis error.
type said string

func (s said) Error() string { return string(s) }
func (said) RedisError()     {}

func TestRedisHook(t *testing.T) {
	t.Parallel()
	m := New("0.0.0")
	ctx := context.Background()
	boom := errors.New("connection reset")
	process := func(err error, args ...any) {
		cmd := redis.NewCmd(ctx, args...)
		_ = m.Redis().ProcessHook(func(context.Context, redis.Cmder) error { return err })(ctx, cmd)
	}
	process(nil, "get", "k")
	process(redis.Nil, "get", "k")
	process(said("NOSCRIPT No matching script"), "evalsha", "x")
	process(boom, "get", "k")
	process(boom, "a-command-of-its-own", "k")
	pipe := func(names ...string) {
		var cmds []redis.Cmder
		for _, name := range names {
			cmd := redis.NewCmd(ctx, name)
			cmd.SetErr(boom)
			cmds = append(cmds, cmd)
		}
		_ = m.Redis().ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return boom })(ctx, cmds)
	}
	pipe("evalsha", "wait")
	pipe("evalsha", "evalsha", "xdel")
	for command, want := range map[string]float64{"get": 1, "evalsha": 3, "other": 1, "xdel": 1, "wait": 1, "pipeline": 0} {
		if got := testutil.ToFloat64(m.redisErrors[command]); got != want {
			t.Errorf("errors of %s: %g, want %g", command, got, want)
		}
	}
}

// TestHTTPPatterns counts by patterns, never by paths, and preserves the interfaces
// that WebSockets and streams need.
func TestHTTPPatterns(t *testing.T) {
	t.Parallel()
	m := New("0.0.0")
	inner := http.NewServeMux()
	inner.HandleFunc("GET /v1/things/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		if _, ok := w.(http.Flusher); !ok {
			t.Error("an answer cannot be flushed")
		}
	})
	outer := http.NewServeMux()
	outer.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), routeKey{}, r.Context().Value(routeKey{})))
		inner.ServeHTTP(w, r)
		Routed(r)
	})
	server := httptest.NewServer(m.HTTP(outer))
	defer server.Close()
	for _, path := range []string{"/v1/things/a", "/v1/things/b", "/v1/other", "/elsewhere"} {
		for _, token := range []string{"", "x"} {
			req, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", token)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
	server.Close() // a call is counted when its handler returns, which may be after its answer
	want := `
# HELP conclave_http_requests_total HTTP requests, by route and status; 101 is a WebSocket.
# TYPE conclave_http_requests_total counter
conclave_http_requests_total{route="/v1/",status="401"} 3
conclave_http_requests_total{route="/v1/",status="404"} 1
conclave_http_requests_total{route="GET /v1/things/{id}",status="200"} 2
conclave_http_requests_total{route="none",status="404"} 2
`
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "conclave_http_requests_total"); err != nil {
		t.Error(err)
	}
}
