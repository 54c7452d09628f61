package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"text/template/parse"

	"github.com/gorilla/websocket"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// exposed holds a node's metrics: by metric, by label, its values.
type exposed map[string]map[string][]string

// scraped are the labels that Prometheus adds itself.
var scraped = []string{"instance", "job"}

// expose starts a real node, causes events on it, and reads its metrics.
func expose(t *testing.T) exposed {
	t.Helper()
	n, err := node.New(node.Config{
		Listen: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", NodeID: "n1", JWTSecret: []byte("test-only secret of 32 bytes or more"),
		Redis: "redis://" + redistest.StartMini(t).Addr() + "/0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+n.Addr()+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	_, _, _ = ws.ReadMessage() // it is refused, and counted
	get := func(url string) io.ReadCloser {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp.Body
	}
	get("http://" + n.Addr() + "/v1/keys")
	text := expfmt.NewTextParser(model.UTF8Validation)
	families, err := text.TextToMetricFamilies(get("http://" + n.AdminAddr() + "/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	all := exposed{"up": {}}
	for name, family := range families {
		names := []string{name}
		if len(family.Metric) > 0 && family.Metric[0].Histogram != nil {
			names = []string{name + "_bucket", name + "_count", name + "_sum"}
		}
		for _, name := range names {
			all[name] = map[string][]string{}
			if strings.HasSuffix(name, "_bucket") {
				all[name]["le"] = nil
			}
			for _, m := range family.Metric {
				for _, l := range m.Label {
					all[name][l.GetName()] = append(all[name][l.GetName()], l.GetValue())
				}
			}
		}
	}
	return all
}

// filled substitutes Grafana's variables.
var filled = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$__range", "1h")

// check returns the faults of an expression, given a node's metrics.
func (e exposed) check(expression string) (faults []string) {
	parsed, err := parser.ParseExpr(filled.Replace(expression))
	if err != nil {
		return []string{err.Error()}
	}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	known := append([]string(nil), scraped...)
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			has, exists := e[v.Name]
			if !exists {
				fault("no node exposes %s", v.Name)
			}
			for name := range has {
				known = append(known, name)
			}
			for _, m := range v.LabelMatchers {
				values, exists := has[m.Name]
				switch {
				case m.Name == labels.MetricName, slices.Contains(scraped, m.Name):
				case !exists:
					fault("%s has no label %s", v.Name, m.Name)
				case !e.hasValue(m, values):
					fault("%s never has %s", v.Name, m)
				}
			}
		}
		return nil
	})
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		var grouping []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			grouping = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				grouping = n.VectorMatching.MatchingLabels
			}
		}
		for _, name := range grouping {
			if !slices.Contains(known, name) {
				fault("it groups by %s, which nothing in it has", name)
			}
		}
		return nil
	})
	return faults
}

// hasValue reports whether a label may have the value that is matched. Refusals on a
// test's node are not all that are possible: those are the codes of package wire.
func (exposed) hasValue(m *labels.Matcher, values []string) bool {
	if m.Name == "result" {
		values = append(values, string(wire.CodeInternal))
	}
	if m.Type == labels.MatchNotEqual || m.Type == labels.MatchNotRegexp {
		m = labels.MustNewMatcher(map[labels.MatchType]labels.MatchType{
			labels.MatchNotEqual: labels.MatchEqual, labels.MatchNotRegexp: labels.MatchRegexp,
		}[m.Type], m.Name, m.Value)
	}
	if m.Type == labels.MatchRegexp { // each of its words
		for word := range strings.SplitSeq(m.Value, "|") {
			if !slices.ContainsFunc(values, labels.MustNewMatcher(m.Type, m.Name, word).Matches) {
				return false
			}
		}
		return true
	}
	return slices.ContainsFunc(values, m.Matches)
}

// expressions returns those of the dashboard, by panel, and of the alerts.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	var board struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr, RefID, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/conclave.json")), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			all["panel "+p.Title+" "+target.RefID] = target.Expr
		}
	}
	alerts := 0
	for _, group := range list(documents(t, "alerts", read(t, "prometheus/alerts.yaml"))[0]["groups"]) {
		for _, rule := range list(dig(group, "rules")) {
			name := fmt.Sprint(dig(rule, "alert"))
			all["alert "+name] = fmt.Sprint(dig(rule, "expr"))
			alerts++
			for _, note := range []string{"summary", "runbook"} {
				text, _ := dig(rule, "annotations", note).(string)
				if len(text) < 20 {
					t.Errorf("alert %s has no %s", name, note)
				}
				if _, err := parse.Parse(name, "{{$labels := .}}{{$value := .}}"+text, "", "", map[string]any{"humanizeDuration": 0, "humanizePercentage": 0}); err != nil {
					t.Errorf("alert %s: %v", name, err)
				}
			}
			if severity := dig(rule, "labels", "severity"); !slices.Contains([]any{"info", "warning", "critical"}, severity) {
				t.Errorf("alert %s has the severity %v", name, severity)
			}
		}
	}
	if alerts < 10 || len(all)-alerts < 25 {
		t.Errorf("%d alerts and %d expressions of the dashboard", alerts, len(all)-alerts)
	}
	return all
}

// TestMonitoring parses every expression of the dashboard and the alerts, and checks
// the metrics, labels and values that it names against a real node's. It also finds
// planted faults.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	node := expose(t)
	shown := map[string]bool{}
	for where, expression := range expressions(t) {
		for _, fault := range node.check(expression) {
			t.Errorf("%s: %s\n%s", where, fault, expression)
		}
		for name := range node {
			if strings.Contains(expression, name) {
				shown[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")] = true
			}
		}
	}
	for name := range node {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if strings.HasPrefix(name, "conclave_") && !shown[base] {
			t.Errorf("%s is on no panel and in no alert", base)
		}
	}
	for expression, says := range map[string]string{
		`rate(conclave_relay_lags_seconds_bucket[5m])`:                  "no node exposes",
		`sum(conclave_redy)`:                                            "no node exposes",
		`conclave_sessions_ended_total{result="completed"}`:             "has no label result",
		`conclave_sessions_ended_total{outcome="succeeded"}`:            "never has",
		`conclave_sessions_ended_total{outcome=~"failed|gone"}`:         "never has",
		`conclave_lock_failures_total{reason!="canceled"}`:              "never has",
		`sum by (user) (conclave_sessions_ended_total)`:                 "groups by user",
		`sum(rate(conclave_sessions_ended_total))`:                      "expected type range vector",
		`histogram_quantile(0.9, conclave_lock_wait_seconds_bucket{le}`: "unexpected",
	} {
		if faults := strings.Join(node.check(expression), "; "); !strings.Contains(faults, says) {
			t.Errorf("%s: found %q, want %q", expression, faults, says)
		}
	}
}

// TestScrape follows compose.yaml's nodes to Prometheus and on to Grafana.
func TestScrape(t *testing.T) {
	t.Parallel()
	compose := documents(t, "compose.yaml", read(t, "compose.yaml"))[0]
	var admins []string
	services, _ := compose["services"].(object)
	for name, s := range services {
		if admin := dig(s, "environment", "CONCLAVE_ADMIN_ADDR"); admin != nil {
			admins = append(admins, fmt.Sprint(admin))
			host, _, _ := strings.Cut(fmt.Sprint(admin), ":")
			if dig(s, "networks", "monitoring", "ipv4_address") != host {
				t.Errorf("%s: its admin listener is on %v, which is not its place in the network of monitoring", name, admin)
			}
		}
	}
	prometheus := documents(t, "prometheus.yml", read(t, "prometheus/prometheus.yml"))[0]
	job := dig(prometheus, "scrape_configs", 0)
	targets := words(dig(job, "static_configs", 0, "targets"))
	slices.Sort(admins)
	slices.Sort(targets)
	if len(admins) != 3 || !slices.Equal(admins, targets) || dig(job, "job_name") != "conclave" {
		t.Errorf("nodes are at %v, Prometheus scrapes %v as %v", admins, targets, dig(job, "job_name"))
	}
	if files := words(prometheus["rule_files"]); !slices.Equal(files, []string{"/etc/prometheus/alerts.yaml"}) {
		t.Errorf("rules are %v", files)
	}
	source := documents(t, "provisioning.yaml", read(t, "grafana/provisioning.yaml"))[0]
	if url := dig(source, "datasources", 0, "url"); url != "http://prometheus:9090" || services["prometheus"] == nil {
		t.Errorf("Grafana asks %v", url)
	}
}
