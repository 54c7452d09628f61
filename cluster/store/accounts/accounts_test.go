package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const password = "correct horse battery staple"

// cheap makes hashes at negligible cost.
var cheap = auth.Cost{MemoryKiB: 64, Time: 1, Threads: 1}

func newAccounts(t testing.TB, rdb redis.UniversalClient, prefix string, cost auth.Cost) *accounts.Store {
	t.Helper()
	a, err := accounts.New(accounts.Config{Redis: rdb, Prefix: prefix, Cost: cost, Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAccounts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, a := t.Context(), newAccounts(t, rdb, prefix, cheap)
		roles := []wire.Role{wire.RoleCoordinator, wire.RoleParticipant}
		if err := a.Add(ctx, "alice", password, roles, false); err != nil {
			t.Fatal(err)
		}
		got, err := a.Authenticate(ctx, "alice", password, auth.Turn{})
		if err != nil {
			t.Fatal(err)
		}
		if got.User != "alice" || !slices.Equal(got.Roles, roles) || !got.LogsIn || got.Disabled || !got.CreatedAt.Equal(epoch.Truncate(time.Second)) {
			t.Errorf("got %+v", got)
		}

		// The operator's view in Redis.
		fields, err := rdb.HGetAll(ctx, prefix+"account:{alice}").Result()
		if err != nil {
			t.Fatal(err)
		}
		phc := regexp.MustCompile(`^\$argon2id\$v=19\$m=64,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`)
		if !phc.MatchString(fields["password_hash"]) || fields["roles"] != "coordinator,participant" ||
			fields["disabled"] != "false" || fields["created_at"] != "2026-05-06T07:08:09Z" || len(fields) != 4 {
			t.Errorf("stored %v", fields)
		}

		// Not twice, unless requested.
		if err := a.Add(ctx, "alice", "another password", roles, false); codeOf(err) != wire.CodeConflict {
			t.Errorf("added twice: %v", err)
		}
		if err := a.SetIdentity(ctx, "alice", "id-1"); err != nil {
			t.Fatal(err)
		}
		if err := a.Add(ctx, "alice", "another password", roles[:1], true); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(ctx, "alice", password, auth.Turn{}); codeOf(err) != wire.CodeUnauthenticated {
			t.Errorf("the old password: %v", err)
		}
		got, err = a.Authenticate(ctx, "alice", "another password", auth.Turn{})
		if err != nil || !slices.Equal(got.Roles, roles[:1]) || got.Identity != "id-1" {
			t.Errorf("after replacing: %+v, %v", got, err)
		}
	})
}

func TestAuthenticateRefuses(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, a := t.Context(), newAccounts(t, rdb, prefix, cheap)
		for _, user := range []string{"alice", "barred", "broken", "odd"} {
			if err := a.Add(ctx, user, password, []wire.Role{wire.RoleParticipant}, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.SetDisabled(ctx, "barred", true); err != nil {
			t.Fatal(err)
		}
		if err := rdb.HSet(ctx, prefix+"account:{odd}", "disabled", "maybe").Err(); err != nil {
			t.Fatal(err)
		}
		if err := a.SetIdentity(ctx, "elsewhere", "id-e"); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, try := range [][2]string{
			{"alice", "wrong password"}, {"alice", ""}, {"alice", password + "x"}, {"alice", strings.Repeat("x", 1<<20)},
			{"nobody", password}, {"barred", password}, {"odd", password}, {"elsewhere", ""}, {"elsewhere", password},
			{"", password}, {"a:b", password}, {"{alice}", password}, {"alice\x00", password}, {strings.Repeat("x", 200), password},
		} {
			got, err := a.Authenticate(ctx, try[0], try[1], auth.Turn{})
			if codeOf(err) != wire.CodeUnauthenticated || got.User != "" {
				t.Errorf("%.20q: got %+v, %v", try, got, err)
				continue
			}
			said = append(said, err.Error())
		}
		if said = slices.Compact(said); len(said) != 1 {
			t.Errorf("refusals can be told apart: %q", said)
		}

		// A replaced password does not re-enable a disabled account; enabling does.
		if err := a.Add(ctx, "barred", password, []wire.Role{wire.RoleParticipant}, true); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(ctx, "barred", password, auth.Turn{}); codeOf(err) != wire.CodeUnauthenticated {
			t.Errorf("replaced while barred: %v", err)
		}
		if err := a.SetDisabled(ctx, "barred", false); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(ctx, "barred", password, auth.Turn{}); err != nil {
			t.Errorf("enabled again: %v", err)
		}

		// A damaged hash is reported to the operator, without a costly computation.
		for _, stored := range []string{
			"plain", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
			"$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
			"$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
			"$argon2id$v=19$m=64,t=1,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
			"$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$", "$argon2id$v=19$m=64,t=1,p=1 $AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		} {
			if err := rdb.HSet(ctx, prefix+"account:{broken}", "password_hash", stored).Err(); err != nil {
				t.Fatal(err)
			}
			got, err := a.Authenticate(ctx, "broken", password, auth.Turn{})
			if err == nil || codeOf(err) != "not a *wire.Error" || got.User != "" || strings.Contains(err.Error(), stored) {
				t.Errorf("%s: got %+v, %v", stored, got, err)
			}
		}
	})
}

func TestIdentityWithoutAccount(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, a := t.Context(), newAccounts(t, rdb, prefix, cheap)
		if err := a.SetIdentity(ctx, "elsewhere", "id-e"); err != nil {
			t.Fatal(err)
		}
		got, err := a.Get(ctx, "elsewhere")
		if err != nil || got.Identity != "id-e" || got.LogsIn || len(got.Roles) != 0 {
			t.Errorf("got %+v, %v", got, err)
		}
		if err := a.SetDisabled(ctx, "elsewhere", false); codeOf(err) != wire.CodeNotFound {
			t.Errorf("enabled what is no account: %v", err)
		}
		// It may become an account, and keeps its identity.
		if err := a.Add(ctx, "elsewhere", password, []wire.Role{wire.RoleParticipant}, false); err != nil {
			t.Fatal(err)
		}
		if got, err = a.Authenticate(ctx, "elsewhere", password, auth.Turn{}); err != nil || got.Identity != "id-e" {
			t.Errorf("got %+v, %v", got, err)
		}
		for _, user := range []string{"nobody", "a:b", ""} {
			if got, err := a.Get(ctx, user); codeOf(err) != wire.CodeNotFound || got.User != "" {
				t.Errorf("Get(%q) = %+v, %v", user, got, err)
			}
		}
	})
}

func TestAccountsRefuse(t *testing.T) {
	ctx, a := t.Context(), newAccounts(t, redistest.Mini(t), "", cheap)
	roles := []wire.Role{wire.RoleParticipant}
	for _, tt := range []struct {
		name string
		err  error
		want wire.Code
	}{
		{"user with braces", a.Add(ctx, "{a}", password, roles, false), wire.CodeBadRequest},
		{"short password", a.Add(ctx, "a", "1234567", roles, false), wire.CodeBadRequest},
		{"long password", a.Add(ctx, "a", strings.Repeat("x", 1025), roles, false), wire.CodeBadRequest},
		{"no role", a.Add(ctx, "a", password, nil, false), wire.CodeBadRequest},
		{"unknown role", a.Add(ctx, "a", password, []wire.Role{"root"}, false), wire.CodeBadRequest},
		{"identity of nobody", a.SetIdentity(ctx, "a:b", "id"), wire.CodeBadRequest},
		{"identity too long", a.SetIdentity(ctx, "a", strings.Repeat("x", wire.MaxIdentityBytes+1)), wire.CodeTooLarge},
		{"identity with a newline", a.SetIdentity(ctx, "a", "x\ny"), wire.CodeBadRequest},
		{"identity not UTF-8", a.SetIdentity(ctx, "a", "x\xff"), wire.CodeBadRequest},
		{"disable nobody", a.SetDisabled(ctx, "nobody", true), wire.CodeNotFound},
		{"disable nobody's name", a.SetDisabled(ctx, "{a}", true), wire.CodeNotFound},
		{"password of nobody", a.SetPassword(ctx, "nobody", password), wire.CodeNotFound},
		{"password too short", a.SetPassword(ctx, "nobody", "1234567"), wire.CodeBadRequest},
	} {
		if got := codeOf(tt.err); got != tt.want {
			t.Errorf("%s: got %s (%v), want %s", tt.name, got, tt.err, tt.want)
		}
	}
	if _, err := accounts.New(accounts.Config{}); err == nil {
		t.Error("accounts without redis")
	}
	if _, err := accounts.New(accounts.Config{Redis: redistest.Mini(t), Cost: auth.Cost{MemoryKiB: 64}}); err == nil {
		t.Error("a cost of no passes")
	}
}

// TestListAndPassword tests an operator's work on existing accounts.
func TestListAndPassword(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, a := t.Context(), newAccounts(t, rdb, prefix, cheap)
		other := newAccounts(t, rdb, "x"+prefix, cheap)
		for _, user := range []string{"carol", "alice", "参与方1"} {
			if err := a.Add(ctx, user, password, []wire.Role{wire.RoleParticipant}, false); err != nil {
				t.Fatal(err)
			}
			if err := other.Add(ctx, user+"-else", password, []wire.Role{wire.RoleAdmin}, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.SetIdentity(ctx, "bob", "id-b"); err != nil { // of another issuer: no account
			t.Fatal(err)
		}
		if err := a.SetDisabled(ctx, "carol", true); err != nil {
			t.Fatal(err)
		}
		list, err := a.List(ctx)
		if err != nil || len(list) != 3 || list[0].User != "alice" || list[0].Disabled || list[1].User != "carol" || !list[1].Disabled || list[2].User != "参与方1" {
			t.Errorf("got %+v, %v", list, err)
		}
		if since := rdb.HGet(ctx, prefix+"accounts:disabled", "carol").Val(); since != "2026-05-06T07:08:09Z" {
			t.Errorf("disabled since %q", since)
		}

		if err := a.SetPassword(ctx, "alice", "another password"); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(ctx, "alice", password, auth.Turn{}); codeOf(err) != wire.CodeUnauthenticated {
			t.Errorf("the old password: %v", err)
		}
		got, err := a.Authenticate(ctx, "alice", "another password", auth.Turn{})
		if err != nil || got.Generation != 2 || len(got.Roles) != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		// An unreadable generation is not taken for the first.
		if err := rdb.HSet(ctx, prefix+"account:{alice}", "generation", "x").Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Authenticate(ctx, "alice", "another password", auth.Turn{}); err == nil || got.User != "" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestAddRace(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		a := newAccounts(t, rdb, prefix, cheap)
		var wg sync.WaitGroup
		won := make(chan int, 8)
		for i := range cap(won) {
			wg.Go(func() {
				if err := a.Add(t.Context(), "alice", fmt.Sprintf("password-%d", i), []wire.Role{wire.RoleParticipant}, false); err == nil {
					won <- i
				} else if codeOf(err) != wire.CodeConflict {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d accounts of one name", len(won))
		}
		if _, err := a.Authenticate(t.Context(), "alice", fmt.Sprintf("password-%d", <-won), auth.Turn{}); err != nil {
			t.Errorf("whoever was told of success cannot log in: %v", err)
		}
	})
}

func TestRedisGone(t *testing.T) {
	server := redistest.StartMini(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	a := newAccounts(t, rdb, "", cheap)
	server.Close()
	_, authenticate := a.Authenticate(t.Context(), "alice", password, auth.Turn{})
	_, get := a.Get(t.Context(), "alice")
	_, list := a.List(t.Context())
	for name, err := range map[string]error{
		"Authenticate": authenticate, "Get": get, "List": list,
		"SetPassword":  a.SetPassword(t.Context(), "alice", password),
		"RevokeTokens": a.RevokeTokens(t.Context(), "alice", "root", ""),
		"Add":          a.Add(t.Context(), "alice", password, []wire.Role{wire.RoleAdmin}, false),
		"SetIdentity":  a.SetIdentity(t.Context(), "alice", "id"),
		"SetDisabled":  a.SetDisabled(t.Context(), "alice", true),
	} {
		if codeOf(err) != wire.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLoginFlood: hashing is bounded, so is its queue, and a caller that has left
// does not wait in it.
func TestLoginFlood(t *testing.T) {
	rdb := redistest.Mini(t)
	costly := auth.Cost{MemoryKiB: 8 << 10, Time: 1, Threads: 1}
	a, err := accounts.New(accounts.Config{Redis: rdb, Cost: costly, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Authenticate(gone, "alice", password, auth.Turn{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the client has gone: %v", err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[wire.Code]int{}
	for range 200 {
		wg.Go(func() {
			_, err := a.Authenticate(t.Context(), "nobody", password, auth.Turn{})
			mu.Lock()
			defer mu.Unlock()
			codes[codeOf(err)]++
		})
	}
	wg.Wait()
	if codes[wire.CodeUnauthenticated] == 0 || codes[wire.CodeRateLimited] == 0 || codes[wire.CodeUnauthenticated]+codes[wire.CodeRateLimited] != 200 {
		t.Errorf("got %v", codes)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	a := newAccounts(b, redistest.Mini(b), "", auth.DefaultCost)
	if err := a.Add(b.Context(), "alice", password, []wire.Role{wire.RoleParticipant}, false); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.Authenticate(b.Context(), "alice", password, auth.Turn{}); err != nil {
			b.Fatal(err)
		}
	}
}
