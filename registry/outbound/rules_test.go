package outbound

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestNamedHosts says what the configuration's own hosts may be.
func TestNamedHosts(t *testing.T) {
	names := map[string]string{
		"registry.corp.example": "10.1.1.1", "auth.corp.example": "10.1.1.2", "other.example": "10.1.1.3", "lan": "192.168.0.9", "other": "192.168.0.8",
		"localhost": "127.0.0.1", "here.corp.example": "127.0.0.1", "cloud.corp.example": "169.254.169.254",
	}
	named := []string{"http://registry.corp.example", "http://lan:5000", "http://10.2.2.2:5000", "http://localhost:5000", "http://127.0.0.1:5001"}
	for _, test := range []struct {
		allow  []string
		strict bool
		yes    string
		no     string
	}{
		{nil, false, "registry.corp.example auth.corp.example registry.corp.example:8443 lan:5000 10.2.2.2:5000 localhost:5000 127.0.0.1:5001",
			"other.example other 10.2.2.3 localhost:6379 127.0.0.1:6379 127.0.0.1:5000 here.corp.example cloud.corp.example"},
		{nil, true, "", "registry.corp.example auth.corp.example lan:5000 10.2.2.2:5000 localhost:5000 127.0.0.1:5001"},
		{[]string{"10.0.0.0/8"}, true, "registry.corp.example auth.corp.example other.example 10.2.2.3", "lan:5000 localhost:5000"},
		{[]string{"other.example:80", "*.corp.example"}, true, "other.example registry.corp.example here.corp.example", "other.example:81 lan:5000 cloud.corp.example"},
		{[]string{"localhost", "Other."}, true, "localhost:6379 other", "127.0.0.1:5001 lan"},
		{[]string{"127.0.0.0/8"}, true, "localhost:6379 127.0.0.1:9 here.corp.example", "lan"},
	} {
		r, err := ParseRules(test.allow, test.strict)
		if err != nil {
			t.Fatal(err)
		}
		w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, names)
		c := w.client(Options{Rules: r, Named: named})
		for host := range strings.FieldsSeq(test.yes) {
			if _, err := get(t, c, "http://"+host+"/"); err != nil {
				t.Errorf("%v strict %v: %s: %v", test.allow, test.strict, host, err)
			}
		}
		for host := range strings.FieldsSeq(test.no) {
			if _, err := get(t, c, "http://"+host+"/"); !errors.Is(err, ErrRefused) {
				t.Errorf("%v strict %v: %s: got %v", test.allow, test.strict, host, err)
			}
		}
		w.server.Close()
	}
}

func TestParseRules(t *testing.T) {
	for _, bad := range []string{"", "*", "*.", "http://x", "a/b", "10.0.0.0/33", "127.1", "a b", "user@x", "*x", "fe80::1%eth0", "x:y:z"} {
		if _, err := ParseRules([]string{bad}, false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad)) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
