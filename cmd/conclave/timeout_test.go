package main

import (
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// silent is a server that accepts requests, and answers them as those of a session,
// if one is given. It never answers more.
func silent(t *testing.T, session string) (url string) {
	t.Helper()
	end := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && session != "" {
			_ = json.NewEncoder(w).Encode(wire.Task{KeyID: "key-1", SessionID: session})
			return
		}
		select {
		case <-r.Context().Done():
		case <-end:
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(end) })
	return srv.URL
}

// TestTimeout: a command waits for a server that never answers until the timeout and
// no longer, and its message is true.
func TestTimeout(t *testing.T) {
	t.Parallel()
	keygen := []string{"keygen", "alice", "bob"}
	sign := []string{"sign", "key-1", "--data", "x", "--address", "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"}
	for name, tc := range map[string]struct {
		url  string
		args []string
		says string
	}{
		"no server":                        {"http://127.0.0.1:1", keygen, "no answer within 700ms"},
		"a keygen is not answered":         {silent(t, ""), keygen, "no answer within 700ms"},
		"a signing is not answered":        {silent(t, ""), sign, "no answer within 700ms"},
		"a keygen is taken, and no more":   {silent(t, "kg-1"), keygen, "no outcome within 700ms; session kg-1 may still be running"},
		"a signing is taken, and no more":  {silent(t, "sg-1"), sign, "no outcome within 700ms; session sg-1 may still be running"},
		"nobody says where the address is": {silent(t, ""), []string{"sign", "key-1", "--data", "x"}, "no answer within 700ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"CONCLAVE_HOME": filepath.Join(t.TempDir(), "home"), "CONCLAVE_TOKEN": "h.eyJzdWIiOiJhbGljZSJ9.sig", "CONCLAVE_URL": tc.url}
			var stdout, stderr strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // otherwise it would hang with the client
			defer cancel()
			status := run(ctx, append(tc.args, "--timeout", "700ms"), strings.NewReader(""), &stdout, &stderr, func(name string) string { return env[name] })
			if status != exitTimeout || ctx.Err() != nil || !strings.Contains(stderr.String(), tc.says) || stdout.String() != "" {
				t.Errorf("status %d, %v, %q on stdout, and on stderr, want %q:\n%s", status, ctx.Err(), stdout.String(), tc.says, stderr.String())
			}
		})
	}
}

// TestTimeoutFollowsTheRequest: without --timeout it is the request's own lifetime,
// plus a minute.
func TestTimeoutFollowsTheRequest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args    []string
		expires time.Duration
		want    time.Duration
	}{
		{nil, 0, time.Hour + time.Minute},
		{nil, 10 * time.Minute, 11 * time.Minute},
		{[]string{"--timeout", "3h"}, 10 * time.Minute, 3 * time.Hour},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		limit := timeoutFlag(flags)
		if err := flags.Parse(tc.args); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		err := limit(t.Context(), tc.expires, func(ctx context.Context) error {
			until, ok := ctx.Deadline()
			if !ok || until.Before(before.Add(tc.want)) || until.After(time.Now().Add(tc.want)) {
				t.Errorf("%v, %s: until %s, want %s from now", tc.args, tc.expires, until, tc.want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%v: %v", tc.args, err)
		}
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	limit := timeoutFlag(flags)
	if err := flags.Parse([]string{"--timeout", "-1s"}); err != nil {
		t.Fatal(err)
	}
	if err := limit(t.Context(), 0, func(context.Context) error { t.Error("it runs"); return nil }); err == nil {
		t.Error("a negative time is taken")
	}
}
