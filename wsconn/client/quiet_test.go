package client

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// TestQuietNonsense: a server that sends nonsense does not fill the log.
func TestQuietNonsense(t *testing.T) {
	var out strings.Builder
	log := zerolog.New(&out)
	c, err := New(Config{URLs: []string{"http://127.0.0.1:1"}, Token: rest.StaticToken("x"), Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	for range 1200 {
		if err := c.receive(t.Context(), []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 120 {
		t.Errorf("%d lines, want 120", n)
	}
}
