package contents

import (
	"debug/buildinfo"
	"runtime/debug"
	"testing"
)

// TestToldLinker: which version of a program counts that is not in its module's version.
func TestToldLinker(t *testing.T) {
	for flags, want := range map[string]string{
		"":                        "",
		"-s -w":                   "",
		"-X main.version=1.2.3":   "1.2.3",
		"-X=main.Version=v1.2.3":  "v1.2.3",
		`-X "main.version=1.2.3"`: "1.2.3",
		`-s -X 'example.com/a/version.Version=1.2.3' -w`:                                   "1.2.3",
		"-X main.version=today":                                                            "",
		"-X main.commit=1.2.3":                                                             "",
		"-X version=1.2.3":                                                                 "",
		"-X main.version=1.0.0 -X main.version=2.0.0":                                      "2.0.0",
		"-X main.version=1.0.0 -X main.ver=2.0.0":                                          "",
		"-X example.com/b.version=1.0.0 -X main.version=2.0.0":                             "2.0.0",
		"-X example.com/a/cmd/a.version=3.0.0 -X main.version=2.0.0 -X x.Version=1.0.0":    "3.0.0",
		"-X example.com/other/cmd/a.version=3.0.0 -X main.version=2.0.0 -X x.Version=1.00": "2.0.0",
	} {
		info := &buildinfo.BuildInfo{Main: debug.Module{Path: "example.com/a"}, Settings: []debug.BuildSetting{{Key: "-ldflags", Value: flags}}}
		if got := toldLinker(info); got != want {
			t.Errorf("%s: got %q, want %q", flags, got, want)
		}
	}
	if got := toldLinker(&buildinfo.BuildInfo{}); got != "" {
		t.Errorf("no flags: got %q", got)
	}
}
