package rest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// A backend requests a signature by one call of the web API. The same RequestID
// again is the same signing.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	api, err := rest.New(rest.Config{
		URLs: []string{"https://conclave.example"}, Token: rest.StaticToken(os.Getenv("CONCLAVE_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	key, err := api.Key(ctx, "treasury")
	if err != nil {
		log.Fatal(err)
	}
	sig, err := api.Sign(ctx, rest.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob 5", RequestID: "order-4711"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sig.Signature) // Sign has verified it
}
