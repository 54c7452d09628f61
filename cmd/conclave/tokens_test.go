package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestTokenFile: a file whose token is renewed by another program.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	waits := 0
	source := fileTokens(path, func(_ context.Context, file string) error {
		if waits++; waits > 3 || file != path {
			return errors.New("it waits for too long")
		}
		write("newest")
		return nil
	})
	get := func(ctx context.Context, want string) {
		t.Helper()
		if token, err := source(ctx); err != nil || token != want {
			t.Errorf("got %q, %v, want %q", token, err, want)
		}
	}
	var told *wire.Error
	if _, err := source(t.Context()); !errors.As(err, &told) || told.Temporary {
		t.Errorf("no file: %v", err)
	}
	write("first\n")
	get(t.Context(), "first")
	write("second\n")
	get(t.Context(), "second")
	if err := os.Remove(path); err != nil { // while it is replaced
		t.Fatal(err)
	}
	get(t.Context(), "second")
	write("")
	get(t.Context(), "second")
	get(rest.WithSpentToken(t.Context(), "second"), "newest")
	if waits == 0 {
		t.Error("a token that the servers find expired is given again")
	}
}
