package session

import (
	"strings"
	"testing"
	"time"
)

// TestNobodyIsBlamedWhileFull: a missed deadline or a lost message is no party's fault
// if the store was full.
func TestNobodyIsBlamedWhileFull(t *testing.T) {
	t.Parallel()
	const second, long = time.Second, time.Hour
	keygen, signing := newKeygen(2, "alice", "bob"), newSigning(2, 2, "alice", "bob")
	both := func(s Session) []at { return []at{{0, s.accept(1)}, {second, s.accept(2)}} }
	report := PartyFailed{From: "alice", Party: 1, Reason: "no word from part 2", Culprits: []int{2}, Full: true}
	for name, c := range map[string]struct {
		s     Session
		path  []at
		phase Phase
	}{
		"unanswered":         {signing, []at{{0, signing.accept(1)}, {long, Tick{Full: true}}}, Expired},
		"keygen overdue":     {keygen, append(both(keygen), at{long, Tick{Full: true}}), Failed},
		"keygen given up":    {keygen, append(both(keygen), at{2 * second, report}), Failed},
		"signing overdue":    {signing, append(both(signing), at{long, Tick{Full: true}}), Running},
		"signing given up":   {signing, append(both(signing), at{2 * second, report}), Running},
		"given up for good":  {signing, append(both(signing), at{2 * second, report}, at{2 * second, report}, at{2 * second, report}, at{2 * second, report}), Failed},
		"overdue, over time": {expiring(signing), append(both(signing), at{long, Tick{Full: true}}), Expired},
	} {
		got, _ := play(t, c.s, c.path...)
		if got.Phase != c.phase || len(got.Culprits) > 0 {
			t.Errorf("%s: it is %s and blames %v", name, got.Phase, got.Culprits)
		}
		for i, p := range got.Parties {
			if p.Strikes > 0 || p.Out {
				t.Errorf("%s: part %d is under suspicion", name, i+1)
			}
		}
		if got.Phase.Final() && !strings.Contains(got.Reason, "storage was full") {
			t.Errorf("%s: the reason is %q", name, got.Reason)
		}
	}
}

func expiring(s Session) Session {
	s.ExpiresAt = began.Add(time.Minute)
	return s
}
