//go:build e2e

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The part of the guide that is run: from the first deployment up to where it
// turns to vulnerability scanning.
const (
	guideBegins = "The simplest deployment"
	guideEnds   = "Zot has built-in CVE scanning via Trivy:"
)

// A guideStep is one thing that the guide says: a command with its
// continuation lines, a configuration, a deployment, or words.
type guideStep struct {
	line int // in the guide's text, from 1
	kind stepKind
	text string
}

type stepKind string

const (
	stepCommand stepKind = "command" // of a shell
	stepComment stepKind = "comment" // a shell comment: words, or what a command should show
	stepConfig  stepKind = "config"  // a JSON configuration, whole or in part
	stepDeploy  stepKind = "deploy"  // a Kubernetes deployment
	stepWords   stepKind = "words"   // headings, tables and pictures
)

// guideText returns the text of the guide that zot users start from, which
// lies beside the repository, not in it. Without it the test is skipped: a
// clone alone cannot have it.
func guideText(t *testing.T) string {
	t.Helper()
	path := os.Getenv("BERTH_GUIDE")
	if path == "" {
		path = filepath.Join(Root(t), "..", "shared", "reference", "zot-guide.txt")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("NOT RUN: the guide's text is not at %s ($BERTH_GUIDE names another place)", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	deployment = regexp.MustCompile(`^\S+-deployment\.yaml$`)

	heredoc = regexp.MustCompile(`<<'?([A-Z]+)'?$`)
	// Outside of commands and configurations: lines that introduce something,
	// rows of the table of sections, and pictures in box-drawing characters.
	words = regexp.MustCompile(`^([A-Z].*:|ZOT-TO-ZOT REPLICATION|SectionPurpose.*|(storage|http|log|extensions\.\w+)[A-Z].*|.*[─│┌└▶].*)$`)
)

// parseGuide cuts the guide into steps. A line that fits nothing fails t.
func parseGuide(t *testing.T, text string) []guideStep {
	t.Helper()
	lines := strings.Split(text, "\n")
	var steps []guideStep
	inShell := false
	i := 0
	// until takes lines up to and with the one that ends the step.
	until := func(kind stepKind, last func(line string) bool) {
		first := i
		for i < len(lines)-1 && !last(lines[i]) {
			i++
		}
		i++
		steps = append(steps, guideStep{first + 1, kind, strings.Join(lines[first:i], "\n")})
	}
	for i < len(lines) && !strings.HasPrefix(lines[i], guideBegins) {
		i++
	}
	for i < len(lines) && lines[i] != guideEnds {
		line := lines[i]
		switch {
		case line == "":
			inShell = false
			i++
		case line == "Terminal window":
			inShell = true
			i++
		case line == "{":
			inShell = false
			depth := 0
			until(stepConfig, func(l string) bool {
				depth += strings.Count(l, "{") - strings.Count(l, "}")
				return depth == 0
			})
		case deployment.MatchString(line):
			until(stepDeploy, func(l string) bool { return l == "" })
		case inShell && words.MatchString(line) && !strings.HasPrefix(line, "#"):
			inShell = false
		case inShell && strings.HasPrefix(line, "#"):
			until(stepComment, func(string) bool { return true })
		case inShell && heredoc.MatchString(line):
			end := heredoc.FindStringSubmatch(line)[1]
			until(stepCommand, func(l string) bool { return l == end })
		case inShell:
			until(stepCommand, func(l string) bool { return !strings.HasSuffix(l, `\`) })
		case words.MatchString(line):
			until(stepWords, func(string) bool { return true })
		default:
			t.Errorf("line %d of the guide is neither a command, a configuration nor words that are known: %s", i+1, line)
			i++
		}
	}
	if i == len(lines) {
		t.Fatalf("the guide has no part from %q to %q", guideBegins, guideEnds)
	}
	return steps
}
