package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCompose checks for errors that Compose would report only when it runs, and
// that conclaved and conclave know all their settings.
func TestCompose(t *testing.T) {
	t.Parallel()
	file := documents(t, "compose.yaml", read(t, "compose.yaml"))[0]
	services, _ := file["services"].(object)
	count := map[string]int{}
	for name, v := range services {
		s, _ := v.(object)
		image := fmt.Sprint(s["image"])
		count[image]++
		if image == "conclave:local" {
			checkOurs(t, name, s)
		} else if !pinned.MatchString(image) {
			t.Errorf("%s: image %s is not pinned to a version", name, image)
		}
		checkService(t, file, name, s)
	}
	if count["conclave:local"] != 6 || len(count) != 5 {
		t.Errorf("services by image: %v", count)
	}
}

func checkService(t *testing.T, file object, name string, s object) {
	t.Helper()
	if s["restart"] != "unless-stopped" || s["read_only"] != true || !equalJSON(s["cap_drop"], []string{"ALL"}) || s["privileged"] != nil {
		t.Errorf("%s: restart %v, read_only %v, cap_drop %v", name, s["restart"], s["read_only"], s["cap_drop"])
	}
	for variable, value := range environment(s) {
		if regexp.MustCompile(`SECRET|PASSWORD|KEK`).MatchString(variable) && !strings.HasPrefix(value, "/run/secrets/") {
			t.Errorf("%s: %s is in the environment; secrets come in files", name, variable)
		}
		if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok && !contains(s["secrets"], secret) {
			t.Errorf("%s: %s names the secret %s, which the service does not have", name, variable, secret)
		}
	}
	if len(words(s["secrets"])) > 0 && !equalJSON(s["group_add"], []string{"${SECRETS_GID:-1000}"}) {
		t.Errorf("%s cannot read its secrets: its groups are %v", name, s["group_add"])
	}
	for _, secret := range words(s["secrets"]) {
		if dig(file, "secrets", secret, "file") == nil {
			t.Errorf("%s: there is no secret %s", name, secret)
		}
	}
	dependencies, _ := s["depends_on"].(object)
	for other, how := range dependencies {
		if dig(how, "condition") == "service_healthy" && dig(file, "services", other, "healthcheck", "test") == nil {
			t.Errorf("%s waits for %s to be healthy, which nobody checks", name, other)
		}
	}
	networks, ok := s["networks"].(object)
	if !ok {
		networks = object{}
		for _, n := range words(s["networks"]) {
			networks[n] = nil
		}
	}
	for n := range networks {
		if all, _ := file["networks"].(object); len(networks) == 0 || !has(all, n) {
			t.Errorf("%s: there is no network %s", name, n)
		}
	}
	for _, mount := range words(s["volumes"]) {
		from, _, _ := strings.Cut(mount, ":")
		if strings.HasPrefix(from, ".") {
			if _, err := os.Stat(from); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		} else if all, _ := file["volumes"].(object); !has(all, from) {
			t.Errorf("%s: there is no volume %s", name, from)
		}
	}
}

// checkOurs checks a service's settings against the program that it runs.
func checkOurs(t *testing.T, name string, s object) {
	t.Helper()
	entry, command := words(s["entrypoint"]), words(s["command"])
	if len(entry) == 0 {
		start(t, environment(s), command...)
		check := words(dig(s, "healthcheck", "test"))
		if len(check) < 2 || check[0] != "CMD" || check[1] != "/usr/local/bin/conclaved" {
			t.Fatalf("%s: healthcheck is %v; the image has no shell", name, check)
		}
		if out, err := exec.Command(program(t, "conclaved"), append(check[2:], "--help")...).CombinedOutput(); err != nil {
			t.Errorf("%s: healthcheck %v: %v\n%s", name, check, err, out)
		}
		return
	}
	if len(entry) != 1 || entry[0] != "/usr/local/bin/conclave" {
		t.Fatalf("%s: entrypoint %v is not in the image", name, entry)
	}
	startClient(t, command...)
}

func environment(s object) map[string]string {
	env := map[string]string{}
	all, _ := s["environment"].(object)
	for name, value := range all {
		env[name] = fmt.Sprint(value)
	}
	return env
}

func contains(v any, word string) bool {
	for _, w := range words(v) {
		if w == word {
			return true
		}
	}
	return false
}

func has(m object, key string) bool { _, ok := m[key]; return ok }

// TestComposeSecrets generates the secrets and checks their form.
func TestComposeSecrets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	make := func() map[string]string {
		t.Helper()
		cmd := exec.Command("sh", "compose.sh", "secrets")
		cmd.Env = append(os.Environ(), "CONCLAVE_SECRETS="+dir)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
			t.Fatalf("compose.sh secrets: %v, and it says %q", err, out)
		}
		made := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			made[e.Name()] = read(t, filepath.Join(dir, e.Name()))
		}
		return made
	}
	first := make()
	if again := make(); !equalJSON(first, again) {
		t.Error("secrets that were there have changed")
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into %s: %v", dir, info.Mode())
	}
	if want := "redis://conclave:" + first["redis-password"] + "@redis:6379/0\n"; first["redis-url"] != want {
		t.Errorf("redis-url is %q, want %q", first["redis-url"], want)
	}
	seen := map[string]string{}
	for name, secret := range first {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %v, want it for its owner and group", name, info.Mode())
		}
		if name != "redis-url" && !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(secret) {
			t.Errorf("%s is %q", name, secret)
		}
		if other, twice := seen[secret]; twice {
			t.Errorf("%s and %s are the same", name, other)
		}
		seen[secret] = name
	}
	secrets, _ := documents(t, "compose.yaml", read(t, "compose.yaml"))[0]["secrets"].(object)
	for name, s := range secrets {
		if file := fmt.Sprint(dig(s, "file")); filepath.Clean(file) != "secrets/"+name || first[name] == "" {
			t.Errorf("compose.yaml wants %s, which compose.sh does not make", file)
		}
	}
}
