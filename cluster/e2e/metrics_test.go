package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/conclave-mpc/conclave/cluster/node/metrics"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// scrape reads a node's metrics.
func (p *process) scrape() map[string]*dto.MetricFamily {
	p.t.Helper()
	resp, err := http.Get(p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return families
}

// value sums the series of a metric with these labels ("name=value"), of all nodes.
func (c *testCluster) value(metric string, labels ...string) (sum float64) {
	c.t.Helper()
	for _, n := range c.nodes {
		for _, m := range n.scrape()[metric].GetMetric() {
			has := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(labels, l.GetName()+"="+l.GetValue()) {
					has++
				}
			}
			if has == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// at waits until a metric is at least that.
func (c *testCluster) at(least float64, metric string, labels ...string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%s%q is at least %g", metric, labels, least), func() bool { return c.value(metric, labels...) >= least })
}

// TestAdminListener: the operators' endpoints are there, and nowhere else.
func TestAdminListener(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, nil, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		get := func(base, path string) (int, string) {
			t.Helper()
			resp, err := http.Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(body)
		}
		for path, says := range map[string]string{
			"/metrics": "conclave_build_info", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile",
			"/healthz": "ok", "/readyz": "ready",
		} {
			if status, body := get(n.admin, path); status != http.StatusOK || !strings.Contains(body, says) {
				t.Errorf("admin %s: status %d, %.100q", path, status, body)
			}
		}
		for _, path := range []string{"/debug/pprof/cmdline", "/v1/keys", "/ws", "/"} {
			if status, body := get(n.admin, path); status != http.StatusNotFound {
				t.Errorf("admin %s: status %d, %.100q", path, status, body)
			}
		}
		for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline"} {
			if status, body := get(n.base, path); status != http.StatusNotFound {
				t.Errorf("public %s: status %d, %.100q", path, status, body)
			}
		}
	})
}

// TestMetrics checks the counters against the actions.
func TestMetrics(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		c.at(4, "conclave_connections_registered")
		g.keygen(t)
		g.sign(t, "measured", 1, 2)
		g.p[3].drop()
		c.at(1, "conclave_connections_closed_total", "reason=abnormal")
		c.addUser("zoe", "participant")
		c.login(c.nodes[0], "zoe")
		c.call(c.nodes[0], "POST", "/v1/login", "", object{"username": "zoe", "password": "not her password"})
		c.call(c.nodes[1], "GET", "/v1/sessions/none", c.token("alice", wire.RoleCoordinator), nil)
		for _, w := range []struct {
			least  float64
			metric string
			labels []string
		}{
			{2, "conclave_ready", nil},
			{3, "conclave_connections_open", nil},
			{1, "conclave_sessions_started_total", []string{"kind=keygen"}},
			{1, "conclave_sessions_ended_total", []string{"kind=sign", "outcome=completed"}},
			{1, "conclave_session_duration_seconds", []string{"kind=keygen", "outcome=completed"}},
			{1, "conclave_session_attempts_total", []string{"kind=sign"}},
			{4, "conclave_messages_total", []string{"type=register", "result=ok"}},
			{3, "conclave_message_duration_seconds", []string{"type=keygen_complete"}},
			{9, "conclave_lock_wait_seconds", nil},
			{9, "conclave_mailbox_depth_messages", []string{"at=append"}},
			{1, "conclave_mailbox_depth_messages", []string{"at=drain"}},
			{5, "conclave_relay_lag_seconds", nil},
			{9, "conclave_redis_command_duration_seconds", []string{"command=evalsha"}},
			{1, "conclave_redis_pool_connections", nil},
			{1, "conclave_login_failures_total", []string{"reason=password"}},
			{1, "conclave_http_requests_total", []string{"route=POST /v1/login", "status=200"}},
			{1, "conclave_http_requests_total", []string{"route=POST /v1/login", "status=401"}},
			{1, "conclave_http_requests_total", []string{"route=GET /v1/sessions/{session_id}", "status=404"}},
			{4, "conclave_http_requests_total", []string{"route=/ws", "status=101"}},
			{2, "go_goroutines", nil}, {2, "process_open_fds", nil},
		} {
			c.at(w.least, w.metric, w.labels...)
		}
		if n := c.value("conclave_sessions_ended_total"); n != 2 {
			t.Errorf("%g ends of 2 sessions", n)
		}
		documented := documentedMetrics(t)
		for name := range c.nodes[0].scrape() {
			if strings.HasPrefix(name, "conclave_") && !documented(name) {
				t.Errorf("OPERATIONS has no row for %s", name)
			}
		}
	})
}

// labels are the labels of our metrics and the forms of their values. Those of
// routes are patterns in the code.
var labels = map[string]*regexp.Regexp{
	"version": regexp.MustCompile(`^\d+\.\d+\.\d+$`), "goversion": regexp.MustCompile(`^go\d`),
	"reason": regexp.MustCompile(`^(` + strings.Join(slices.Concat(auth.Faults, service.RefusalReasons, []string{
		"normal", "going_away", "abnormal", "no_status", "too_big", "internal", "superseded", "token_expired", "slow", "not_registered", "bad_token",
		"abuse", "forbidden", "held", "cancelled", "lost", "password", "busy", "full", "share", "session", "gone", "day", "forgotten",
	}), "|") + `)$`),
	"type": regexp.MustCompile(`^[a-z_]+$`), "result": regexp.MustCompile(`^[a-z_]+$`), "command": regexp.MustCompile(`^[a-z]+$`),
	"kind": regexp.MustCompile(`^(keygen|reshare|sign)$`), "outcome": regexp.MustCompile(`^(completed|rejected|expired|failed|cancelled)$`),
	"at": regexp.MustCompile(`^(append|drain)$`), "state": regexp.MustCompile(`^(idle|used)$`),
	"limit":  regexp.MustCompile(`^(messages|bytes|requests|registers|login_account|login_address)$`),
	"route":  regexp.MustCompile(`^(none|/|/ws|/v1/|((GET|POST|DELETE|PUT) )?/[a-z0-9./]+(/\{[a-z_]+\}(/[a-z]+)?)?)$`),
	"status": regexp.MustCompile(`^(other|[1-5]\d\d)$`),
}

// series are all our series that a node has, by name and labels.
func (p *process) series() map[string]bool {
	p.t.Helper()
	all := make(map[string]bool)
	for name, family := range p.scrape() {
		if !strings.HasPrefix(name, "conclave_") {
			continue
		}
		for _, m := range family.GetMetric() {
			text := name
			for _, l := range m.GetLabel() {
				form := labels[l.GetName()]
				if form == nil || !form.MatchString(l.GetValue()) {
					p.t.Errorf("%s has the label %s=%q", name, l.GetName(), l.GetValue())
				}
				if l.GetName() == "type" && !slices.Contains(metrics.Types, wire.Type(l.GetValue())) {
					p.t.Errorf("%s has the type %q", name, l.GetValue())
				}
				text += " " + l.GetName() + "=" + l.GetValue()
			}
			all[text] = true
		}
	}
	return all
}

// hostile sends many arbitrary words, in round r, to a node: none may become
// a label.
func (c *testCluster) hostile(n *process, r int) {
	c.t.Helper()
	word := func(kind string) string { return fmt.Sprintf("%s-of-round-%d", kind, r) }
	user := word("user")
	token := c.token(user, wire.RoleCoordinator, wire.RoleParticipant)
	s := c.client(user, wire.RoleParticipant).connect(n)
	for _, kind := range []string{word("type"), "unknown", "error", "keygen_invite"} {
		s.send(kind, object{"key_id": word("key"), "session_id": word("session")})
		s.expectError(wire.CodeUnknownType)
	}
	s.send("session_cancel", object{"session_id": word("session")})
	s.expectError(wire.CodeNotFound)
	s.send("keygen_response", object{"key_id": word("key"), "part_index": 1, "response": true})
	s.expectError(wire.CodeNotFound)
	s.sendEnvelope(object{"type": "ping", "token": word("token"), "payload": object{}})
	s.expectError(wire.CodeUnauthenticated)
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(3000+r, word("reason")), time.Now().Add(patience))
	s.drop()
	for _, q := range []struct{ method, path, token string }{
		{"GET", "/v1/sessions/" + word("session"), token}, {"GET", "/v1/keys/" + word("key"), token},
		{"GET", "/v1/" + word("path"), token}, {"GET", "/v1/" + word("path"), word("token")},
		{"POST", "/v1/keys/" + word("key") + "/signatures", token}, {word("METHOD"), "/v1/keys", token},
		{"DELETE", "/v1/sessions/" + word("session"), token}, {"GET", "/" + word("path"), ""}, {word("METHOD"), "/healthz", ""},
		{"GET", "/ws?token=" + word("token"), ""}, {"GET", "/debug/pprof/" + word("profile"), ""},
	} {
		req, err := http.NewRequest(q.method, n.base+q.path, strings.NewReader(`{"data":"x"}`))
		if err != nil {
			c.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+q.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			c.t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	c.call(n, "POST", "/v1/login", "", object{"username": word("user"), "password": word("password")})
}

// TestLabelsAreClosed checks that the metrics' labels are of closed sets: sessions
// and hostile input of one round make all the series that another round of other
// words makes.
func TestLabelsAreClosed(t *testing.T) {
	inTurn(t, "logins", 2, 3)
	t.Parallel()
	eachCluster(t, 1, withKEK, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		g := gatherParts(t, c)
		g.keygen(t)
		g.sign(t, "first", 1, 2)
		c.hostile(n, 1)
		c.at(1, "conclave_connections_closed_total", "reason=other")
		before := n.series()
		g.keyID = "another.key"
		g.keygen(t)
		g.sign(t, "second", 2, 3)
		for r := 2; r < 5; r++ {
			c.hostile(n, r)
			c.at(float64(r), "conclave_connections_closed_total", "reason=other")
		}
		after := n.series()
		for s := range after {
			if !before[s] {
				t.Errorf("new series %s", s)
			}
		}
		if c.value("conclave_messages_total", "type=unknown", "result=unknown_type") < 4 || len(after) < 100 {
			t.Errorf("unknown types are not counted, or too little is there: %d series", len(after))
		}
	})
}
