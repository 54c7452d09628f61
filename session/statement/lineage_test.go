package statement

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestLineageIsRefused(t *testing.T) {
	t.Parallel()
	first, stranger := firstGeneration(t), firstGeneration(t)
	second := first.refreshed(t, 2, 1, 2)
	third := second.refreshed(t, 4, 2, 3)
	list := func(all ...generation) (certificates []*Certificate) {
		for _, g := range all {
			certificates = append(certificates, g.Certificate)
		}
		return certificates
	}
	for name, tc := range map[string]struct {
		chain []*Certificate
		want  string
	}{
		"nothing":              {nil, "no certificate"},
		"a gap":                {list(first, third), "it follows number 2"},
		"no beginning":         {list(second, third), "the first certificate"},
		"another order":        {list(second, first), "the first certificate"},
		"one twice":            {list(first, second, second), "it follows number 1"},
		"the first twice":      {list(first, first), "no parent"},
		"another key's first":  {list(stranger, second), "it follows number 1"},
		"another key's second": {list(first, stranger.refreshed(t, 2, 1, 2)), "it follows number 1"},
		"a sibling's child":    {list(first, first.refreshed(t, 2, 1, 2), third), "it follows number 2"},
	} {
		if _, err := VerifyLineage(tc.chain); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, tc.want)
		}
	}
	l, err := VerifyLineage(list(first, second, third))
	if err != nil || l.Epoch().Number != 4 {
		t.Errorf("the lineage: %v", err)
	}
	// Consents of the committee before the last.
	if _, err := l.Next(first.certify(t, third.after(t, 5, nil), first.ids).Certificate); err == nil || !strings.Contains(err.Error(), "0 members have consented") {
		t.Errorf("no consents: %v", err)
	}
}

// TestHead: of certificates that follow one parent, or forks of it, everybody takes the
// same, in whatever order they come, and with more of them never a lower one.
func TestHead(t *testing.T) {
	t.Parallel()
	first := firstGeneration(t)
	low, high := first.refreshed(t, 2, 1, 2), first.refreshed(t, 3, 2, 3)
	child := low.refreshed(t, 4, 1, 2)
	twin := first.refreshed(t, 3, 1, 2)
	smaller := high
	if a, b := high.Hash(), twin.Hash(); bytes.Compare(b[:], a[:]) < 0 {
		smaller = twin
	}
	for name, tc := range map[string]struct {
		list []generation
		want generation
	}{
		"one":                           {[]generation{first}, first},
		"one twice":                     {[]generation{first, first}, first},
		"a chain":                       {[]generation{first, low, child}, child},
		"two children":                  {[]generation{first, low, high}, high},
		"two with one number":           {[]generation{first, high, twin}, smaller},
		"a child of the lower":          {[]generation{first, low, high, child}, child},
		"both, and a twin":              {[]generation{first, low, high, twin}, smaller},
		"everything":                    {[]generation{first, low, high, twin, child}, child},
		"one with others' consents too": {[]generation{first, low, first.certify(t, low.Epoch, first.ids, 2, 3)}, low},
	} {
		for range len(tc.list) {
			tc.list = append(tc.list[1:], tc.list[0])
			var list []*Certificate
			for _, g := range tc.list {
				list = append(list, g.Certificate)
			}
			l, err := Head(list)
			if err != nil || l.Head().Hash() != tc.want.Hash() || l.Epoch().Number != tc.want.Epoch.Number {
				t.Fatalf("%s: the head is not epoch %d: %v", name, tc.want.Epoch.Number, err)
			}
			if _, err := VerifyLineage(l.Certificates()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	broken := *high.Certificate
	broken.Consents = broken.Consents[:1]
	for name, list := range map[string][]*Certificate{
		"nothing":           nil,
		"a gap":             {first.Certificate, child.Certificate},
		"no beginning":      {low.Certificate, child.Certificate},
		"two beginnings":    {first.Certificate, firstGeneration(t).Certificate},
		"one not certified": {first.Certificate, low.Certificate, &broken},
	} {
		if _, err := Head(slices.Clone(list)); err == nil {
			t.Errorf("%s: there is a head", name)
		}
	}
}
