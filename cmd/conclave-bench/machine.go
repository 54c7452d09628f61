package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machine describes the machine of the measurement.
type machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Go    string `json:"go"`
	Redis string `json:"redis"`
	Load  string `json:"load"` // average when the run began
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	m.CPU = lineOf("/proc/cpuinfo", "model name")
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(load), " ")
	}
	if out, err := exec.Command("redis-server", "--version").Output(); err == nil {
		if _, version, ok := strings.Cut(string(out), "v="); ok {
			m.Redis, _, _ = strings.Cut(version, " ")
		}
	}
	return m
}

// lineOf returns the text after name and a colon in a file of such lines.
func lineOf(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (m machine) String() string {
	text := fmt.Sprintf("%d × %s, %s, %s", m.Cores, orElse(m.CPU, "unknown CPU"), m.OS, m.Go)
	if m.Redis != "" {
		text += ", Redis " + m.Redis
	}
	if m.Load != "" {
		text += ", load at the start " + m.Load
	}
	return text
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
