package e2e_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is an OTLP collector that keeps the spans it receives.
type spans struct {
	mu   sync.Mutex
	all  []span
	text string // all of it, for searching
}

type span struct {
	*otlp.Span
	node    string
	session string
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request otlp.TracesData // which has a request's encoding
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		node := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.instance.id" {
				node = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, one := range scope.Spans {
				kept := span{Span: one, node: node}
				for _, a := range one.Attributes {
					if a.Key == "session" {
						kept.session = a.Value.GetStringValue()
					}
				}
				s.all = append(s.all, kept)
			}
		}
	}
	s.text += request.String()
}

// of returns the spans of one trace.
func (s *spans) of(trace []byte) (list []span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if string(one.TraceId) == string(trace) {
			list = append(list, one)
		}
	}
	return list
}

// root returns the trace of an ended session, once its root has arrived.
func (s *spans) root(t *testing.T, session string) (trace []byte) {
	t.Helper()
	eventually(t, "the session's root is exported", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := slices.IndexFunc(s.all, func(one span) bool { return one.session == session && len(one.ParentSpanId) == 0 })
		if i >= 0 {
			trace = s.all[i].TraceId
		}
		return i >= 0
	})
	return trace
}

// TestTraces runs sessions through two nodes and finds each as one trace with spans
// of both, without any content of messages.
func TestTraces(t *testing.T) {
	t.Parallel()
	got := &spans{}
	receiver := httptest.NewServer(got)
	t.Cleanup(receiver.Close)
	flags := append([]string{"--otlp-endpoint", receiver.URL}, withKEK...)
	eachCluster(t, 2, flags, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		const data = "a secret wish"
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": data, "account_addr": g.key.address, "participants": partNames[1:3]})
		var id string
		for i := 1; i <= 2; i++ {
			id, _ = g.p[i].expect("sign_invite")["session_id"].(string)
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 2; i++ {
			g.signParams(t, data, i, "1,2")
			g.p[i].send("sign_result", object{"key_id": g.keyID, "part_index": i, "signature": g.key.sign(t, data)})
		}
		g.signed(t, data)

		trace := got.root(t, id)
		wanted := []string{
			"sign", "begin", "handle sign_request", "handle sign_response", "handle sign_result", "step responded", "step signed",
			"lock", "commit", "deliver", "redis evalsha", "deliver sign_invite", "deliver sign_params", "deliver sign_complete",
		}
		missing := func() (list []string) {
			all := got.of(trace)
			for _, name := range wanted {
				if !slices.ContainsFunc(all, func(s span) bool { return s.Name == name }) {
					list = append(list, name)
				}
			}
			return list
		}
		eventually(t, "all spans are there, of both nodes", func() bool {
			nodes := map[string]bool{}
			for _, s := range got.of(trace) {
				nodes[s.node] = true
			}
			return nodes["n1"] && nodes["n2"] && len(nodes) == 2 && len(missing()) == 0 && len(orphans(got.of(trace))) == 0
		})
		for _, s := range got.of(trace) {
			if s.session != "" && s.session != id {
				t.Errorf("span %s is of session %s", s.Name, s.session)
			}
			if s.EndTimeUnixNano < s.StartTimeUnixNano {
				t.Errorf("span %s ends before it begins", s.Name)
			}
		}
		got.mu.Lock()
		defer got.mu.Unlock()
		for _, said := range append([]string{data, "PLAINSHARE", g.key.address, g.keyID, "alice", c.prefix, g.coordinator.token}, partNames[1:]...) {
			if strings.Contains(got.text, said) {
				t.Errorf("%q is in the spans", said)
			}
		}
	})
}

// orphans are spans whose parent is missing, except the root.
func orphans(all []span) (list []string) {
	there := map[string]bool{"": true}
	for _, s := range all {
		there[string(s.SpanId)] = true
	}
	for _, s := range all {
		if !there[string(s.ParentSpanId)] {
			list = append(list, s.Name+" under "+hex.EncodeToString(s.ParentSpanId))
		}
	}
	return list
}
