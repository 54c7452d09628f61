package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// member is one user of the demonstration with its client.
type member struct {
	user     string
	role     wire.Role
	token    rest.Token
	password string
	client   *client.Client
	identity *identity.Identity
	store    *participant.MemStore

	mu    sync.Mutex
	node  string             // the node that holds the socket
	watch func(client.Event) // of the running part, may be nil
}

// join logs a user in through the front door and connects it.
func (m *member) join(ctx context.Context, url string, d *display) error {
	api, err := rest.New(rest.Config{URLs: []string{url}})
	if err != nil {
		return err
	}
	defer api.Close()
	token, err := api.Login(ctx, m.user, m.password)
	if err != nil {
		return fmt.Errorf("log %s in: %w", m.user, err)
	}
	m.token = token
	m.client, err = client.New(client.Config{
		URLs: []string{url}, Token: client.StaticToken(m.token.Secret), Role: m.role,
		Identity: m.identity, Trust: trust.Of(m.store),
		OnEvent: func(ev client.Event) { m.happened(ev, d) },
	})
	return err
}

// run keeps the client going until ctx ends. The printed tokens let others connect
// as this user, and take its place: the demonstration continues without it.
func (m *member) run(ctx context.Context, d *display) error {
	var err error
	if m.role == wire.RoleParticipant {
		err = participant.Serve(ctx, m.client, participant.Config{Shares: m.store, Approve: participant.ApproveAll})
	} else {
		err = m.client.Run(ctx)
	}
	if errors.Is(err, client.ErrSuperseded) {
		d.say("%s has connected from elsewhere and no longer takes part here", m.user)
		return nil
	}
	return err
}

func (m *member) happened(ev client.Event, d *display) {
	m.mu.Lock()
	if c, ok := ev.(client.Connected); ok {
		m.node = c.Node
	}
	watch := m.watch
	m.mu.Unlock()
	switch ev := ev.(type) {
	case client.Connected:
		d.say("%s is connected to node %s", m.user, ev.Node)
	case client.Reconnecting:
		d.say("%s lost its connection and reconnects", m.user)
	}
	if watch != nil {
		watch(ev)
	}
}

func (m *member) at() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

func (m *member) observe(watch func(client.Event)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watch = watch
}
