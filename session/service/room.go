package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
)

// Storage says whether the store has room.
type Storage interface {
	// Room returns ErrStorageFull while nothing new is to be begun, so that what has
	// begun, and what ends it, finds room.
	Room() error
	// FullWithin reports whether the store has refused anything for want of room, as
	// far as is known here, in the last d.
	FullWithin(d time.Duration) bool
}

// checkRoom returns ErrStorageFull where nothing new may begin.
func (v *Service) checkRoom() error {
	if v.cfg.Storage == nil {
		return nil
	}
	return v.cfg.Storage.Room()
}

// wasFull reports whether messages may have been refused in the last d.
func (v *Service) wasFull(d time.Duration) bool {
	return v.cfg.Storage != nil && v.cfg.Storage.FullWithin(d)
}

// levelOf is the level at which a failure is logged that will be made up for: that
// the store is full is said once, by whoever watches it, and not of each session.
func levelOf(err error) zerolog.Level {
	if errors.Is(err, ErrStorageFull) {
		return zerolog.DebugLevel
	}
	return zerolog.WarnLevel
}

// checkRoomForSigning is checkRoom for a signing. With match, an equal one that is open
// already under another id needs no room.
func (v *Service) checkRoomForSigning(ctx context.Context, s session.Session, match bool) error {
	full := v.checkRoom()
	if full == nil || !match {
		return full
	}
	_, open, _, err := v.cfg.Store.Signings(ctx, s.KeyID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(open, func(o Signing) bool { return o.Fingerprint == s.Fingerprint && o.Coordinator == s.Coordinator }) {
		return nil
	}
	return full
}
