// Command coordinator has three participants generate a 2-of-3 key, and signs with
// it. It is an example of package wsconn/client.
//
//	export CONCLAVE_URL=http://127.0.0.1:8080 CONCLAVE_TOKEN=…
//	coordinator bob carol dave
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("CONCLAVE_URL"), os.Getenv("CONCLAVE_TOKEN"), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "coordinator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, token string, participants []string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URLs: []string{url}, Token: client.StaticToken(token)})
	if err != nil {
		return err
	}
	defer c.Close()
	key, err := c.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: participants, Curve: pubkey.Ed25519})
	if err != nil {
		return err
	}
	sig, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob 5"})
	if err != nil {
		return err
	}
	fmt.Println(sig.AccountAddr, sig.Signature) // Sign has verified it
	return nil
}
