package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mostExposure is the highest exposure systemd may report for a unit, in tenths: 0
// is fully confined, 100 is unconfined.
const mostExposure = "20"

// TestSystemd has systemd check the units, with the programs where they were built.
func TestSystemd(t *testing.T) {
	t.Parallel()
	analyze := need(t, "systemd-analyze")
	for _, name := range []string{"conclaved@.service", "conclave-participant.service"} {
		dir := t.TempDir()
		binary, _, _ := strings.Cut(strings.TrimSuffix(name, ".service"), "@")
		if binary == "conclave-participant" {
			binary = "conclave"
		}
		text := read(t, filepath.Join("systemd", name))
		here := strings.ReplaceAll(text, "=/usr/local/bin/", "="+filepath.Dir(program(t, binary))+"/")
		if here == text {
			t.Fatalf("%s runs nothing of /usr/local/bin", name)
		}
		path := filepath.Join(dir, strings.Replace(name, "@.", "@8081.", 1))
		if err := os.WriteFile(path, []byte(here), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) != 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold="+mostExposure, path).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
	}
}

// settings returns a unit's values of one setting.
func settings(unit, name string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1) {
		all = append(all, m[1])
	}
	return all
}

// TestUnits checks that the programs know the units' settings.
func TestUnits(t *testing.T) {
	t.Parallel()
	unit := read(t, "systemd/conclaved@.service")
	env := map[string]string{}
	for _, set := range settings(unit, "Environment") {
		name, value, _ := strings.Cut(set, "=")
		env[name] = strings.ReplaceAll(value, "%i", "8081")
		if regexp.MustCompile(`(SECRET|KEK)$`).MatchString(name) {
			t.Errorf("%s is in the environment; secrets are credentials", name)
		}
	}
	command := strings.Fields(settings(unit, "ExecStart")[0])
	start(t, env, command[1:]...)
	for name, value := range env {
		credential, ok := strings.CutPrefix(value, "%d/")
		given := func(load string) bool { return strings.HasPrefix(load, credential+":/") }
		if ok && !slices.ContainsFunc(settings(unit, "LoadCredential"), given) {
			t.Errorf("%s is the credential %s, which is not loaded", name, credential)
		}
		if strings.HasSuffix(name, "_FILE") && !ok {
			t.Errorf("%s is %s, want a credential", name, value)
		}
	}

	unit = read(t, "systemd/conclave-participant.service")
	command = strings.Fields(settings(unit, "ExecStart")[0])
	startClient(t, command[1:]...)
	known := variable.FindAllString(help(t, "conclave", "participant"), -1)
	for _, set := range settings(unit, "Environment") {
		if name, _, _ := strings.Cut(set, "="); !slices.Contains(known, name) {
			t.Errorf("%s is set, which conclave does not know", name)
		}
	}
}
