package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBandwidth: what a file says of bytes, days and times.
func TestBandwidth(t *testing.T) {
	load := func(rule string) (*Config, error) {
		file := filepath.Join(t.TempDir(), "c.json")
		text := `{"storage":{"rootDirectory":"/x"},"http":{"port":"5000"},"extensions":{"sync":{"registries":[{"urls":["https://a.example.com"],"onDemand":true,` + rule + `}]}}}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(file)
		return c, err
	}
	c, err := load(`"monthlyBytes":"1.5TB","maxBlobSize":"2GiB","downloadRate":"1MB/s","uploadRate":"0.5MB","bandwidth":[
		{"days":"sat - mon, Wed","from":"22:30","to":"06:00","rate":"250 kB","uploadRate":"1KiB","copies":false},{"from":"00:00","to":"24:00"}]`)
	if err != nil {
		t.Fatal(err)
	}
	r := &c.Extensions.Sync.Registries[0]
	month, _ := r.Monthly()
	blob, _ := r.MaxBlob()
	rate, _ := r.Rate()
	up, _ := r.Upload()
	if month != 1_500_000_000_000 || blob != 2<<30 || rate != 1_000_000 || up != 500_000 {
		t.Errorf("%d a month, %d a blob, %d and %d a second", month, blob, rate, up)
	}
	type window struct {
		Days     [7]bool
		From, To time.Duration
		Rate, Up int64
		Copies   bool
	}
	var got []window
	for _, w := range r.Bandwidth {
		x := window{Copies: w.Copies}
		x.Days, _ = w.Weekdays()
		x.From, x.To, _ = w.Times()
		x.Rate, _ = w.Limit()
		x.Up, _ = w.UploadLimit()
		got = append(got, x)
	}
	all := [7]bool{true, true, true, true, true, true, true}
	want := []window{
		{Days: [7]bool{true, true, false, true, false, false, true}, From: 22*time.Hour + 30*time.Minute, To: 6 * time.Hour, Rate: 250_000, Up: 1024},
		{Days: all, To: 24 * time.Hour, Copies: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for rule, complaint := range map[string]string{
		`"monthlyBytes":"much"`: "monthlyBytes", `"monthlyBytes":"-1GB"`: "monthlyBytes", `"monthlyBytes":"NaN"`: "monthlyBytes", `"maxBlobSize":"1e300GB"`: "maxBlobSize",
		`"bandwidth":[{"from":"8","to":"18:00"}]`: "bandwidth[0].from", `"bandwidth":[{"from":"08:00","to":"25:00"}]`: "bandwidth[0].to",
		`"bandwidth":[{"from":"08:00","to":"18:00","days":"mon-"}]`:     "bandwidth[0].days",
		`"bandwidth":[{"from":"08:00","to":"18:00","days":"weekdays"}]`: "bandwidth[0].days",
		`"bandwidth":[{"from":"08:00","to":"18:00","rate":"0"}]`:        "bandwidth[0].rate",
		`"bandwidth":[{"from":"08:00","to":"18:00","uploadRate":"x"}]`:  "bandwidth[0].uploadRate",
		`"uploadRate":"fast"`: ".uploadRate",
	} {
		if _, err := load(rule); err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: %v, want a complaint about %s", rule, err, complaint)
		}
	}
}

// TestS097Readers: a file that lets everybody read what is fetched with credentials, by
// a pattern that says nothing of that, is told so; one that says it is not.
func TestS097Readers(t *testing.T) {
	const credentials = `,"credentials":{"username":"u","password":"p"}`
	for name, c := range map[string]struct {
		rule, access string
		warned       bool
	}{
		"by **":               {`"content":[{"prefix":"team/**"}]` + credentials, `"**":{"anonymousPolicy":["read"]}`, true},
		"by a helper":         {`"content":[{"prefix":"team/**"}],"credentialHelper":"ecr"`, `"**":{"anonymousPolicy":["read"]}`, true},
		"by a destination":    {`"content":[{"prefix":"team/**","destination":"/hub","stripPrefix":true}]` + credentials, `"team/**":{"anonymousPolicy":["read"]},"**":{"anonymousPolicy":["read"]}`, true},
		"said so":             {`"content":[{"prefix":"team/**","destination":"/hub"}]` + credentials, `"hub/team/**":{"anonymousPolicy":["read"]},"**":{"anonymousPolicy":["read"]}`, false},
		"kept out":            {`"content":[{"prefix":"team/**"}]` + credentials, `"team/*":{},"**":{"anonymousPolicy":["read"]}`, false},
		"a longer one":        {`"content":[{"prefix":"team/one/**"}]` + credentials, `"team/**":{"defaultPolicy":["read"]},"**":{"anonymousPolicy":["read"]}`, false},
		"nobody anonymous":    {`"content":[{"prefix":"team/**"}]` + credentials, `"**":{"defaultPolicy":["read"]}`, false},
		"no credentials":      {`"content":[{"prefix":"team/**"}]`, `"**":{"anonymousPolicy":["read"]}`, false},
		"the whole registry":  {`"content":[{"prefix":"**"}]` + credentials, `"**":{"anonymousPolicy":["read"]}`, false},
		"another beginning":   {`"content":[{"prefix":"team/**"}]` + credentials, `"tea/**":{"anonymousPolicy":["read"]}`, false},
		"nothing can be read": {`"content":[{"prefix":"team/**"}]` + credentials, `"**":{"anonymousPolicy":["create"]}`, false},
	} {
		file := filepath.Join(t.TempDir(), "c.json")
		text := `{"storage":{"rootDirectory":"/x"},"http":{"port":"5000","auth":{"htpasswd":{"path":"/x"}},"accessControl":{"repositories":{` + c.access + `}}},
			"extensions":{"sync":{"registries":[{"urls":["https://a.example.com"],"onDemand":true,` + c.rule + `}]}}}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		told := slices.ContainsFunc(warnings, func(w Warning) bool {
			return w.Key == "extensions.sync.registries[0].content[0]" && strings.Contains(w.Text, "for everybody")
		})
		if told != c.warned {
			t.Errorf("%s: warned %v: %v", name, told, warnings)
		}
	}
}
