// Command participant holds shares in a directory and signs payments that a
// coordinator requests. It is an example of package wsconn/client/participant, and
// of the go.mod of a program outside Conclave: see Requirements there.
//
//	export CONCLAVE_URL=http://127.0.0.1:8080 CONCLAVE_TOKEN=…
//	participant DIRECTORY
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: participant DIRECTORY")
		os.Exit(2)
	}
	if err := run(ctx, os.Getenv("CONCLAVE_URL"), os.Getenv("CONCLAVE_TOKEN"), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "participant:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, token, dir string) error {
	store, err := dirstore.Open(dir)
	if err != nil {
		return err
	}
	// A program that guards money gives a passphrase instead of nil.
	identity, _, err := dirstore.LoadIdentity(filepath.Join(dir, "identity"), nil)
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{URLs: []string{url}, Token: client.StaticToken(token), Identity: identity})
	if err != nil {
		return err
	}
	return participant.Serve(ctx, c, participant.Config{Shares: store, Approve: approve})
}

// approve takes part in every key and signs payments only. It believes the server
// about the requester; participant.SignedOnly does not.
func approve(_ context.Context, inv participant.Invitation) (ok bool, reason string, err error) {
	if inv.Kind == request.KindSign && !strings.HasPrefix(inv.Data, "pay ") {
		return false, "I sign payments only", nil
	}
	return true, "", nil
}
