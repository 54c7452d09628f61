package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// A coordinator has three participants make a key with threshold 2, and signs with
// it. Package participant has an Example that runs.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{
		URLs: []string{"https://conclave.example"}, Token: client.StaticToken(os.Getenv("CONCLAVE_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	key, err := c.Keygen(ctx, client.KeygenRequest{
		KeyID: "treasury", Threshold: 2, Participants: []string{"bob", "carol", "dave"}, Curve: pubkey.Ed25519,
	})
	if err != nil {
		log.Fatal(err)
	}
	sig, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob 5"})
	var outcome *request.OutcomeError
	if errors.As(err, &outcome) {
		fmt.Println(outcome.Status, "because", outcome.Reason)
		return
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.KeyID, "signed", sig.Data) // and Sign has verified it
}
