package auth

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// read asks for what is new and reports whether there was anything.
//
// The stream is read from the entry read last. If that is not there any more,
// Redis has lost some (a failover), or has trimmed it: then all is read again,
// since what is new may have lesser ids than what was lost.
func (r *Revocations) read(ctx context.Context) (changed bool, err error) {
	asked := time.Now()
	var fresh []redis.XMessage
	all := r.last == "" || asked.Sub(r.allAt) > revokedAllEvery
	if !all {
		page, err := r.page(ctx, r.last)
		if err != nil {
			return false, err
		}
		if len(page) == 0 || page[0].ID != r.last {
			all = true
		} else {
			fresh = page[1:]
			all = len(page) == revokedPage
		}
	}
	if all {
		if fresh, err = r.everything(ctx); err != nil {
			return false, err
		}
		r.allAt = asked
	}
	var disabled map[string]string
	if all || len(fresh) > 0 {
		if disabled, err = r.cfg.Redis.HGetAll(ctx, r.disabledKey()).Result(); err != nil {
			return false, fmt.Errorf("read disabled accounts: %w", err)
		}
	}
	changed = r.learn(fresh, disabled, asked)
	if len(fresh) > 0 {
		r.last = fresh[len(fresh)-1].ID
	} else if all {
		r.last = ""
	}
	return changed, nil
}

func (r *Revocations) page(ctx context.Context, from string) ([]redis.XMessage, error) {
	page, err := r.cfg.Redis.XRangeN(ctx, r.key(), from, "+", revokedPage).Result()
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	return page, nil
}

func (r *Revocations) everything(ctx context.Context) ([]redis.XMessage, error) {
	var all []redis.XMessage
	for from := "-"; ; {
		page, err := r.page(ctx, from)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < revokedPage {
			return all, nil
		}
		from = "(" + page[len(page)-1].ID
	}
}

// learn adds entries to what is known, and takes over who is disabled unless
// that was not read (nil). It reports whether any of it was news.
func (r *Revocations) learn(entries []redis.XMessage, disabled map[string]string, at time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readAt = at
	for _, m := range entries {
		e, ok := parseRevocation(m)
		if !ok || at.Sub(e.At) > MaxTTL {
			continue
		}
		if e.Token != "" {
			_, known := r.tokens[e.Token]
			news = news || !known
			r.tokens[e.Token] = e.At
			if login, _, ok := strings.Cut(e.Token, "."); ok {
				r.logins[login] = e.At
			}
		}
		if old, known := r.users[e.User]; e.User != "" && (!known || e.At.After(old.At) || e.Generation > old.Generation) {
			e.Generation = max(e.Generation, old.Generation)
			if old.At.After(e.At) {
				e.At = old.At
			}
			r.users[e.User] = e
			news = true
		}
	}
	if disabled != nil {
		for user := range disabled {
			if _, known := r.disabled[user]; !known {
				news = true
			}
		}
		r.disabled = make(map[string]struct{}, len(disabled))
		for user := range disabled {
			r.disabled[user] = struct{}{}
		}
		r.forget(at)
	}
	return news
}

// forget drops what no token can outlive. r.mu is held.
func (r *Revocations) forget(now time.Time) {
	for _, of := range []map[string]time.Time{r.tokens, r.logins} {
		for id, at := range of {
			if now.Sub(at) > MaxTTL {
				delete(of, id)
			}
		}
	}
	for user, e := range r.users {
		if now.Sub(e.At) > MaxTTL {
			delete(r.users, user)
		}
	}
}

// parseRevocation reads an entry; one that is damaged says nothing.
func parseRevocation(m redis.XMessage) (Revocation, bool) {
	text := func(field string) string { s, _ := m.Values[field].(string); return s }
	ms, _, _ := strings.Cut(m.ID, "-")
	at, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return Revocation{}, false
	}
	e := Revocation{Token: text("token"), User: text("user"), By: text("by"), Reason: text("reason"), At: time.UnixMilli(at)}
	if e.Generation, err = strconv.ParseInt(text("generation"), 10, 64); err != nil {
		e.Generation = 0
	}
	return e, e.Token != "" || e.User != ""
}
