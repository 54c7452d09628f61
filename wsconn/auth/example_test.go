package auth_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func ExampleHS256() {
	tokens, err := auth.NewHS256([]byte(strings.Repeat("s", auth.MinSecretBytes)), "conclave", "")
	if err != nil {
		panic(err)
	}
	token, _, err := tokens.Issue("alice", []wire.Role{wire.RoleCoordinator}, time.Hour)
	if err != nil {
		panic(err)
	}
	claims, err := tokens.Verify(context.Background(), token)
	fmt.Println(claims.Subject, claims.Has(wire.RoleCoordinator), claims.Has(wire.RoleAdmin), err)
	_, err = tokens.Verify(context.Background(), token+"x")
	fmt.Println(err)
	// Output:
	// alice true false <nil>
	// token is not valid: wrong algorithm or signature
}
