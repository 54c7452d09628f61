package deploy_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const chart = "helm/conclave"

// render is helm template with one of the chart's own sets of values.
func render(t *testing.T, helm string, args ...string) []object {
	t.Helper()
	cmd := exec.Command(helm, append([]string{"template", "release", chart, "--kube-version", "1.30.0"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm template %v: %v", args, err)
	}
	return documents(t, "helm template", string(out))
}

// TestHelm lints the chart, renders it with each of its sets of values, and checks
// the result against conclaved and against itself.
func TestHelm(t *testing.T) {
	t.Parallel()
	helm := need(t, "helm")
	sets, err := filepath.Glob(chart + "/ci/*-values.yaml")
	if err != nil || len(sets) != 2 {
		t.Fatalf("sets of values: %v, %v", sets, err)
	}
	for _, values := range sets {
		if out, err := exec.Command(helm, "lint", "--strict", chart, "-f", values).CombinedOutput(); err != nil {
			t.Errorf("helm lint %s: %v\n%s", values, err, out)
		}
		all := render(t, helm, "-f", values)
		kinds := map[string][]object{}
		for _, doc := range all {
			kinds[fmt.Sprint(doc["kind"])] = append(kinds[fmt.Sprint(doc["kind"])], doc)
		}
		checkNodes(t, kinds)
		for _, kind := range []string{"Deployment", "StatefulSet"} {
			for _, workload := range kinds[kind] {
				checkRestricted(t, workload)
			}
		}
		checkSelectors(t, kinds)
		large := strings.Contains(values, "large")
		for kind, want := range map[string]int{
			"Deployment": 1, "PodDisruptionBudget": 1, "ServiceAccount": 1, "Secret": 0,
			"HorizontalPodAutoscaler": map[bool]int{true: 1}[large], "Ingress": map[bool]int{true: 1}[large],
			"PodMonitor": map[bool]int{true: 1}[large], "StatefulSet": map[bool]int{false: 1}[large], "NetworkPolicy": map[bool]int{true: 1, false: 2}[large],
		} {
			if got := len(kinds[kind]); got != want {
				t.Errorf("%s: %d of kind %s, want %d", values, got, kind, want)
			}
		}
		for _, config := range kinds["ConfigMap"] {
			for _, name := range []string{"redis.conf", "users.acl", "redis-start.sh"} {
				if got := fmt.Sprint(dig(config, "data", name)); strings.TrimSpace(got) != strings.TrimSpace(read(t, name)) {
					t.Errorf("%s: %s is not the one in deploy/", values, name)
				}
			}
		}
	}
}

// TestHelmRefuses renders values that would not work.
func TestHelmRefuses(t *testing.T) {
	t.Parallel()
	helm := need(t, "helm")
	for set, says := range map[string]string{
		"redis.enabled=true": "existingSecret",
		"existingSecret=x":   "networkPolicy.egress",
		"existingSecret=x,redis.enabled=true,drainSeconds=25":                        "drainSeconds",
		"existingSecret=x,redis.enabled=true,terminationGracePeriodSeconds=20":       "terminationGracePeriodSeconds",
		"existingSecret=x,redis.enabled=true,config.JWT_SECRET=hunter2hunter2hunter": "JWT_SECRET",
		"existingSecret=x,redis.enabled=true,metrics.podMonitor.enabled=true":        "metrics.from",
		"existingSecret=x,redis.enabled=true,config.ADMIN_ADDR=:9090":                "ADMIN_ADDR",
		"existingSecret=x,redis.enabled=true,repliacs=5":                             "repliacs",
	} {
		out, err := exec.Command(helm, "template", "release", chart, "--kube-version", "1.30.0", "--set", set).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("helm template --set %s: %v, want it to say %s\n%s", set, err, says, out)
		}
	}
}

// checkNodes checks the Deployment of the nodes.
func checkNodes(t *testing.T, kinds map[string][]object) {
	t.Helper()
	pod := dig(kinds["Deployment"][0], "spec", "template", "spec")
	container := dig(pod, "containers", 0)
	env := map[string]string{}
	secretPaths := map[string]bool{}
	for _, v := range list(dig(pod, "volumes")) {
		for _, item := range list(dig(v, "secret", "items")) {
			secretPaths["/etc/conclave/secrets/"+fmt.Sprint(dig(item, "path"))] = true
		}
	}
	for _, v := range list(dig(container, "env")) {
		name, value := fmt.Sprint(dig(v, "name")), fmt.Sprint(dig(v, "value"))
		if dig(v, "value") == nil {
			if dig(v, "valueFrom", "secretKeyRef") != nil {
				t.Errorf("%s is a secret in the environment", name)
			}
			value = "pod-1"
		}
		if strings.HasSuffix(name, "_FILE") && !secretPaths[value] {
			t.Errorf("%s is %s, which the Secret's volume does not have: %v", name, value, secretPaths)
		}
		if _, twice := env[name]; twice {
			t.Errorf("%s is set twice", name)
		}
		env[name] = value
	}
	start(t, env, words(dig(container, "args"))...)

	scheme := "HTTP"
	if env["CONCLAVE_TLS_CERT"] != "" {
		scheme = "HTTPS"
	}
	for probe, path := range map[string]string{"readinessProbe": "/readyz", "livenessProbe": "/healthz", "startupProbe": "/healthz"} {
		get := dig(container, probe, "httpGet")
		if dig(get, "path") != path || dig(get, "scheme") != scheme || dig(get, "port") != dig(container, "ports", 0, "name") {
			t.Errorf("%s is %v, want %s by %s", probe, get, path, scheme)
		}
	}
	drain, err := time.ParseDuration(env["CONCLAVE_DRAIN_SPREAD"])
	grace, ok := dig(pod, "terminationGracePeriodSeconds").(int)
	if err != nil || !ok || time.Duration(grace)*time.Second < drain+20*time.Second {
		t.Errorf("a pod is killed after %d s, its node takes up to 20 s and drains for %s of them", grace, drain)
	}
	if _, port, _ := strings.Cut(env["CONCLAVE_LISTEN"], ":"); port != fmt.Sprint(dig(container, "ports", 0, "containerPort")) {
		t.Errorf("the node listens on %s, the container's port is %v", env["CONCLAVE_LISTEN"], dig(container, "ports", 0))
	}
	checkAdmin(t, env["CONCLAVE_ADMIN_ADDR"], container, kinds)
}

// checkAdmin follows the admin listener's port to its permitted clients.
func checkAdmin(t *testing.T, address string, container any, kinds map[string][]object) {
	t.Helper()
	admin := dig(container, "ports", 1)
	if _, port, _ := strings.Cut(address, ":"); dig(admin, "name") != "admin" || port != fmt.Sprint(dig(admin, "containerPort")) {
		t.Errorf("the admin listener is on %q, the container's port is %v", address, admin)
	}
	for _, service := range kinds["Service"] {
		for _, p := range list(dig(service, "spec", "ports")) {
			if dig(p, "targetPort") == "admin" {
				t.Errorf("a Service has the admin listener: %v", p)
			}
		}
	}
	allowed := false
	for _, rule := range list(dig(kinds["NetworkPolicy"][0], "spec", "ingress")) {
		if dig(rule, "ports", 0, "port") == "admin" {
			if allowed = len(list(dig(rule, "from"))) > 0; !allowed {
				t.Error("everybody may reach the admin listener")
			}
		}
	}
	for _, monitor := range kinds["PodMonitor"] {
		if !allowed || dig(monitor, "spec", "podMetricsEndpoints", 0, "port") != "admin" {
			t.Errorf("Prometheus is to scrape %v, and may: %v", dig(monitor, "spec", "podMetricsEndpoints"), allowed)
		}
	}
	annotations := dig(kinds["Deployment"][0], "spec", "template", "metadata", "annotations")
	if port := dig(annotations, "prometheus.io/port"); port != nil && port != fmt.Sprint(dig(admin, "containerPort")) {
		t.Errorf("the pods say that the port is %v", port)
	}
}

// checkRestricted checks a pod against the "restricted" Pod Security Standard.
func checkRestricted(t *testing.T, workload object) {
	t.Helper()
	name := dig(workload, "metadata", "name")
	pod := dig(workload, "spec", "template", "spec")
	user, _ := dig(pod, "securityContext", "runAsUser").(int)
	if dig(pod, "securityContext", "runAsNonRoot") != true || user == 0 || dig(pod, "automountServiceAccountToken") != false ||
		dig(pod, "hostNetwork") != nil || dig(pod, "hostPID") != nil {
		t.Errorf("%v: pod is %v", name, dig(pod, "securityContext"))
	}
	for _, c := range list(dig(pod, "containers")) {
		s := dig(c, "securityContext")
		want := object{
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
			"capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		}
		if !equalJSON(s, want) {
			t.Errorf("%v: container is %v, want %v", name, s, want)
		}
		if dig(c, "resources", "limits", "memory") == nil || dig(c, "readinessProbe") == nil || dig(c, "livenessProbe") == nil {
			t.Errorf("%v: no memory limit, or no probe", name)
		}
		if image := fmt.Sprint(dig(c, "image")); !pinned.MatchString(image) {
			t.Errorf("%v: image %s is not pinned to a version", name, image)
		}
		for _, m := range list(dig(c, "volumeMounts")) {
			if !mounted(pod, workload, dig(m, "name")) {
				t.Errorf("%v: there is no volume %v", name, dig(m, "name"))
			}
		}
	}
}

func mounted(pod any, workload object, name any) bool {
	for _, v := range list(dig(pod, "volumes")) {
		if dig(v, "name") == name {
			return true
		}
	}
	for _, v := range list(dig(workload, "spec", "volumeClaimTemplates")) {
		if dig(v, "metadata", "name") == name {
			return true
		}
	}
	return false
}

// checkSelectors checks that every pod selector selects exactly one workload.
func checkSelectors(t *testing.T, kinds map[string][]object) {
	t.Helper()
	var pods []object
	for _, w := range append(kinds["Deployment"], kinds["StatefulSet"]...) {
		labels, _ := dig(w, "spec", "template", "metadata", "labels").(object)
		pods = append(pods, labels)
	}
	selects := func(what string, selector any) {
		t.Helper()
		wanted, _ := selector.(object)
		n := 0
		for _, labels := range pods {
			all := len(wanted) > 0
			for k, v := range wanted {
				all = all && labels[k] == v
			}
			if all {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s selects %d workloads, want 1: %v", what, n, wanted)
		}
	}
	for kind, path := range map[string][]any{
		"Deployment": {"spec", "selector", "matchLabels"}, "StatefulSet": {"spec", "selector", "matchLabels"},
		"Service": {"spec", "selector"}, "PodDisruptionBudget": {"spec", "selector", "matchLabels"},
		"NetworkPolicy": {"spec", "podSelector", "matchLabels"}, "PodMonitor": {"spec", "selector", "matchLabels"},
	} {
		for _, doc := range kinds[kind] {
			selects(kind, dig(doc, path...))
		}
	}
	for _, doc := range kinds["NetworkPolicy"] {
		for _, direction := range []string{"ingress", "egress"} {
			for _, rule := range list(dig(doc, "spec", direction)) {
				for _, peer := range append(list(dig(rule, "from")), list(dig(rule, "to"))...) {
					if s := dig(peer, "podSelector", "matchLabels"); s != nil {
						selects("a peer of a NetworkPolicy", s)
					}
				}
			}
		}
	}
	for _, doc := range kinds["HorizontalPodAutoscaler"] {
		if dig(doc, "spec", "scaleTargetRef", "name") != dig(kinds["Deployment"][0], "metadata", "name") {
			t.Errorf("the autoscaler scales %v", dig(doc, "spec", "scaleTargetRef"))
		}
	}
	for _, doc := range kinds["Ingress"] {
		for _, p := range list(dig(doc, "spec", "rules", 0, "http", "paths")) {
			if path := fmt.Sprint(dig(p, "path")); path == "/" || path == "/metrics" || path == "/readyz" {
				t.Errorf("the ingress lets %s in", path)
			}
			if dig(p, "backend", "service", "name") != dig(kinds["Deployment"][0], "metadata", "name") {
				t.Errorf("the ingress sends to %v", dig(p, "backend"))
			}
		}
	}
}

// TestGraceIsLongEnough checks the other files' grace periods for a stopping node
// against the 20 s that it may take (node.Stop).
func TestGraceIsLongEnough(t *testing.T) {
	t.Parallel()
	for path, expression := range map[string]string{
		"systemd/conclaved@.service": `(?m)^TimeoutStopSec=(\d+)s$`, "compose.yaml": `stop_grace_period: (\d+)s`,
	} {
		m := regexp.MustCompile(expression).FindStringSubmatch(read(t, path))
		if m == nil {
			t.Errorf("%s does not say how long a node has", path)
			continue
		}
		if seconds, err := strconv.Atoi(m[1]); err != nil || seconds < 25 {
			t.Errorf("%s gives a node %s s", path, m[1])
		}
	}
}
