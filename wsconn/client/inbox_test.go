package client

import (
	"testing"
	"time"
)

// TestHoldAll: a coordinator's client does not count the messages that it leaves to
// a participant.
func TestHoldAll(t *testing.T) {
	b := &inbox{}
	b.init()
	b.reset(0, false)
	for seq := uint64(1); seq <= 1000; seq++ {
		if seq > 3 {
			b.holdAll(seq)
		}
		b.took(seq)
	}
	if seq, _ := b.due(time.Now(), true); seq != 3 || len(b.held) != 0 {
		t.Errorf("acknowledges %d, holds %d", seq, len(b.held))
	}
}
