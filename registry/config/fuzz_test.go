package config

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse feeds any bytes in each format. Parsing must not panic, and what it
// accepts can be checked, printed, and read again as printed.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/guide/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(everySecret))
	f.Add([]byte("storage:\n  subPaths:\n    /a: &x {rootDirectory: /a}\n    /b: {<<: *x, rootDirectory: /b}\n"))
	f.Add([]byte(`{"http":{"auth":{"ldap":{}},"port":"${PORT}"}} // ${`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"x.json", "x.yaml", "x"} {
			c, _, err := Parse(name, data, func(string) (string, bool) { return "v", true })
			if err != nil {
				continue
			}
			_, _ = c.Unbuilt(nil)
			for p := AllInOne; p <= OnlyScanner; p++ {
				_ = c.ValidateFor(p)
			}
			if len(c.Redacted()) == 0 {
				t.Error("printed as nothing")
			}
		}
	})
}
