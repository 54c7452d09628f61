package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// parsed reads a YAML file of the repository.
func parsed(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// workflow is the part of a file in .github/workflows that the tests read.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Minutes int `yaml:"timeout-minutes"`
		Steps   []struct {
			Uses, Run string
			With      map[string]any
		}
	}
}

// TestWorkflowsRunCI checks that workflows run .ci/run: a workflow with other checks
// could pass a change that CI refuses, or the reverse.
func TestWorkflowsRunCI(t *testing.T) {
	t.Parallel()
	for name, own := range map[string][]string{
		"ci":      {"bash .ci/run"},
		"release": {"bash .ci/run", `bash .github/notes.sh "$GITHUB_REF_NAME" > "$RUNNER_TEMP/notes.txt"`},
	} {
		var w workflow
		parsed(t, "../.github/workflows/"+name+".yml", &w)
		if len(w.Jobs) != 1 || len(w.Permissions) != 1 {
			t.Fatalf("%s: %d jobs with permissions %v, want one job, with the contents only", name, len(w.Jobs), w.Permissions)
		}
		for _, job := range w.Jobs {
			var runs []string
			version := ""
			for _, step := range job.Steps {
				if step.Run != "" {
					runs = append(runs, step.Run)
				}
				if file, ok := step.With["go-version-file"].(string); ok {
					version = file
				}
			}
			if !slices.Equal(runs, own) || version != "go.mod" || job.Minutes < 60 {
				t.Errorf("%s runs %q with Go of %q for %d minutes, want %q with Go of go.mod", name, runs, version, job.Minutes, own)
			}
		}
	}
}

// TestReleaseBuildsThePrograms checks that a release has the programs of the image,
// built with its flags, except for the version, which only a release has.
func TestReleaseBuildsThePrograms(t *testing.T) {
	t.Parallel()
	var release struct {
		Builds []struct {
			Main, Binary string
			Env, Flags   []string
			LDFlags      []string `yaml:"ldflags"`
			OS           []string `yaml:"goos"`
		}
		Archives []struct {
			IDs []string `yaml:"ids"`
		}
		SBOMs    []struct{ Artifacts string } `yaml:"sboms"`
		Checksum struct{ Algorithm string }
	}
	parsed(t, "../.goreleaser.yaml", &release)
	line := regexp.MustCompile(`RUN go build (.*) -ldflags="(.*)" -o /out/ (.*)`).FindStringSubmatch(read(t, "Dockerfile"))
	if line == nil {
		t.Fatal("the Dockerfile has no build line")
	}
	var programs []string
	for _, b := range release.Builds {
		programs = append(programs, b.Main)
		if !slices.Contains(b.Flags, "-trimpath") || !slices.Contains(b.Flags, "-buildvcs=true") || !slices.Equal(b.LDFlags, []string{line[2]}) ||
			!slices.Contains(b.Env, "CGO_ENABLED=0") || !strings.HasSuffix(b.Main, "/"+b.Binary) || !slices.Contains(b.OS, "linux") {
			t.Errorf("%+v is not built as the image's programs are: %q", b, line[0])
		}
	}
	if !slices.Equal(programs, strings.Fields(line[3])) {
		t.Errorf("a release has %v, the image %q", programs, line[3])
	}
	if release.Checksum.Algorithm != "sha256" || len(release.SBOMs) != 1 || len(release.Archives) != 1 || len(release.Archives[0].IDs) != len(programs) {
		t.Errorf("got %+v, want one archive of all programs, with a checksum and an SBOM", release)
	}
}

// TestReleaseNotes checks that the notes of a version are its section of CHANGELOG,
// and that a version without one has no release.
func TestReleaseNotes(t *testing.T) {
	t.Parallel()
	all := read(t, "docs/CHANGELOG.md")
	headings := regexp.MustCompile(`(?m)^## .*$`).FindAllString(all, -1)
	if len(headings) == 0 {
		t.Fatal("CHANGELOG has no sections")
	}
	for i, heading := range headings {
		if i > 0 && !regexp.MustCompile(`^## v\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)$`).MatchString(heading) {
			t.Errorf("heading %q, want one like ## v1.2.3 (2027-01-31)", heading)
		}
		version := strings.Fields(heading)[1]
		notes, err := exec.Command("bash", "../.github/notes.sh", version).Output()
		if err != nil || len(notes) == 0 || !strings.Contains(all, heading+"\n\n"+strings.TrimSpace(string(notes))) {
			t.Errorf("notes of %s: %v\n%s", version, err, notes)
		}
	}
	out, err := exec.Command("bash", "../.github/notes.sh", "v999.0.0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no section v999.0.0") {
		t.Errorf("a version without a section: %v %s", err, out)
	}
}
