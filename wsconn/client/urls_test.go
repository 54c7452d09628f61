package client

import (
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

func TestURLs(t *testing.T) {
	for _, bad := range []string{"", "localhost:8080", "ftp://x", "http://", "http://u:p@host", "http://host?token=x", "http://host#f", "ws://host"} {
		if _, err := rest.New(rest.Config{URLs: []string{bad}}); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), ":p@") {
			t.Errorf("%v shows a password", err)
		}
	}
	c, err := New(Config{URLs: []string{"https://host:1/base/", "http://h"}, Token: rest.StaticToken("")})
	if err != nil {
		t.Fatal(err)
	}
	clienttest.Want(t, "sockets", c.sockets, []string{"wss://host:1/base/ws", "ws://h/ws"})
}
