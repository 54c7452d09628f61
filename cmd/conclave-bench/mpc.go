package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// circle is a coordinator and participants that hold shares and compute, each with a
// client of its own on another node. They run in this process.
type circle struct {
	asks  *client.Client
	users []string
	spare func() // ends the spare thread that participants' programs start first
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// circle connects n participants, who have pinned the coordinator's identity and
// approve everything it has signed. pre gives them their pre-parameters, in order;
// with nil each generates its own.
func (c *clusterOf) circle(ctx context.Context, n int, pre func(i int) participant.PreParamsSource) (*circle, error) {
	ctx, stop := context.WithCancel(ctx)
	r := &circle{stop: stop, spare: party.SpareThread()}
	asks, err := c.clientConfig(0, "asks", wire.RoleCoordinator)
	if err == nil {
		asks.Identity, err = identity.New() // signs its requests
	}
	if err != nil {
		r.close()
		return nil, err
	}
	var holds []*client.Client
	for i := range n {
		user := fmt.Sprintf("party-%d", i+1)
		cfg, err := c.clientConfig(i, user, wire.RoleParticipant)
		if err != nil {
			r.close()
			return nil, err
		}
		if cfg.Identity, err = identity.New(); err != nil {
			r.close()
			return nil, err
		}
		store := new(participant.MemStore)
		if err := store.Pin("asks", asks.Identity.Public().Fingerprint()); err != nil {
			r.close()
			return nil, err
		}
		part := participant.Config{Shares: store, Approve: participant.ApproveAll, KeygensPerHour: -1}
		if pre != nil {
			part.PreParams = pre(i)
		}
		one, err := client.New(cfg)
		if err != nil {
			r.close()
			return nil, err
		}
		r.done.Go(func() { _ = participant.Serve(ctx, one, part) }) // its end shows in WaitConnected and in the requests
		r.users, holds = append(r.users, user), append(holds, one)
	}
	for _, one := range holds {
		if err := one.WaitConnected(ctx); err != nil {
			r.close()
			return nil, err
		}
	}
	if r.asks, err = client.Dial(ctx, asks); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (c *clusterOf) clientConfig(node int, user string, role wire.Role) (client.Config, error) {
	token, err := c.lab.token(user, role)
	return client.Config{URLs: []string{c.bases[node%len(c.bases)]}, Token: client.StaticToken(token), User: user, Role: role}, err
}

func (r *circle) close() {
	if r.asks != nil {
		_ = r.asks.Close() // an earlier failure has shown in its requests
	}
	r.stop()
	r.done.Wait()
	r.spare()
}

// keygen generates a key of all participants, with this threshold.
func (r *circle) keygen(ctx context.Context, threshold int, curve pubkey.Curve) (client.Key, error) {
	return r.asks.Keygen(ctx, client.KeygenRequest{Threshold: threshold, Participants: r.users, Curve: curve})
}

func (r *circle) sign(ctx context.Context, key client.Key, data string) error {
	_, err := r.asks.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: data})
	return err
}

// stock is a source of prepared pre-parameters.
type stock struct{ sets chan *preparams.Set }

func newStock(sets ...*preparams.Set) *stock {
	s := &stock{make(chan *preparams.Set, len(sets))}
	for _, one := range sets {
		s.sets <- one
	}
	return s
}

// Run implements participant.PreParamsSource.
func (s *stock) Run(context.Context, func(found, of int)) {}

// Want implements participant.PreParamsSource.
func (s *stock) Want() {}

// Release implements participant.PreParamsSource.
func (s *stock) Release() {}

// Take implements participant.PreParamsSource.
func (s *stock) Take(context.Context) (*preparams.Set, error) {
	select {
	case one := <-s.sets:
		return one, nil
	default:
		return nil, errors.New("the stock of pre-parameters is used up")
	}
}

// prepared generates n sets of pre-parameters, and returns each for Conclave and for
// raw tss-lib: the two never meet, so that a set may serve one key of each.
func (l *lab) prepared(ctx context.Context, n int) ([]*preparams.Set, []*ecdsakeygen.LocalPreParams, error) {
	var ours []*preparams.Set
	var raw []*ecdsakeygen.LocalPreParams
	for range n {
		p, err := l.preParams(ctx)
		if err != nil {
			return nil, nil, err
		}
		text, err := p.Marshal()
		if err != nil {
			return nil, nil, err
		}
		var stored struct {
			Params *ecdsakeygen.LocalPreParams `json:"params"`
		}
		if err := json.Unmarshal(text, &stored); err != nil {
			return nil, nil, fmt.Errorf("read pre-parameters: %w", err)
		}
		ours, raw = append(ours, p), append(raw, stored.Params)
	}
	return ours, raw, nil
}
