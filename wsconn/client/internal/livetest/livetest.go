// Package livetest runs a node and participants in this process, for the examples
// of the SDK's packages. An error ends the program.
package livetest

import (
	"context"
	"log"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Server is a node on a Redis in memory.
type Server struct {
	URL    string // its base URL
	tokens *auth.HS256
	Stop   func() // ends it, and the participants started by Serve
	ctx    context.Context
	lives  sync.WaitGroup
}

// Start starts a server.
func Start() *Server {
	redis, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	redis.ClockTTL(true)
	secret := []byte("an example's secret of 32 bytes or more")
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", Redis: "redis://" + redis.Addr(), JWTSecret: secret, DrainSpread: time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	if err := n.Start(); err != nil {
		log.Fatal(err)
	}
	tokens, err := auth.NewHS256(secret, "", "")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{URL: "http://" + n.Addr(), tokens: tokens, ctx: ctx}
	s.Stop = func() {
		cancel()
		s.lives.Wait()
		_ = n.Stop(context.Background())
		redis.Close()
	}
	return s
}

// Token returns a token as from a login.
func (s *Server) Token(user string, role wire.Role) string {
	token, _, err := s.tokens.Issue(user, []wire.Role{role}, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	return token
}

// Dial returns a connected coordinator.
func (s *Server) Dial(ctx context.Context, user string) *client.Client {
	c, err := client.Dial(ctx, client.Config{URLs: []string{s.URL}, Token: client.StaticToken(s.Token(user, wire.RoleCoordinator))})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// Serve runs a participant until the server stops.
func (s *Server) Serve(user string, store participant.ShareStore, approve participant.Approver) {
	id, err := identity.New()
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Config{
		URLs: []string{s.URL}, Token: client.StaticToken(s.Token(user, wire.RoleParticipant)), Identity: id,
	})
	if err != nil {
		log.Fatal(err)
	}
	s.lives.Go(func() {
		if err := participant.Serve(s.ctx, c, participant.Config{Shares: store, Approve: approve, Concurrency: 1}); err != nil {
			log.Fatal(err)
		}
	})
}
