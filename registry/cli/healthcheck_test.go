package cli

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHealthcheck asks servers that listen in all the ways a file can say.
func TestHealthcheck(t *testing.T) {
	dir := t.TempDir()
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			status = http.StatusTeapot
		}
		w.WriteHeader(status)
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	secure := httptest.NewTLSServer(handler)
	defer secure.Close()
	socket := httptest.NewUnstartedServer(handler)
	socket.Listener.Close()
	var err error
	if socket.Listener, err = net.Listen("unix", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	socket.Start()
	defer socket.Close()

	save := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	encoded := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	good := save("good", append([]byte("-----BEGIN X-----\n-----END X-----\n"), encoded(secure.Certificate().Raw)...))
	other := save("other", append(encoded([]byte("another")), encoded(secure.Certificate().Raw)...))
	empty := save("empty", []byte("none"))

	type object = map[string]any
	port := func(s *httptest.Server) string { return strings.TrimPrefix(s.Listener.Addr().String(), "127.0.0.1:") }
	for name, test := range map[string]struct {
		http object
		want string // in the error; "" if none
	}{
		"plain":               {object{"port": port(plain)}, ""},
		"any address":         {object{"port": port(plain), "address": "0.0.0.0"}, ""},
		"TLS":                 {object{"port": port(secure), "tls": object{"cert": good, "key": "k"}}, ""},
		"socket":              {object{"address": "unix:" + filepath.Join(dir, "s")}, ""},
		"another certificate": {object{"port": port(secure), "tls": object{"cert": other, "key": "k"}}, "another certificate"},
		"no certificate":      {object{"port": port(secure), "tls": object{"cert": empty, "key": "k"}}, "holds no certificate"},
		"no file":             {object{"port": port(secure), "tls": object{"cert": good + "x", "key": "k"}}, "no such file"},
		"TLS, but not here":   {object{"port": port(plain), "tls": object{"cert": good, "key": "k"}}, "asking for health"},
		"plain, but not here": {object{"port": port(secure)}, "400"},
		"nobody":              {object{"address": "unix:" + filepath.Join(dir, "t")}, "asking for health"},
	} {
		b, err := json.Marshal(object{"storage": object{"rootDirectory": dir}, "http": test.http})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = Program{Name: "p"}.Run(t.Context(), []string{"healthcheck", save("config.json", b)}, &out)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || err == nil && out.String() != "ok\n" {
			t.Errorf("%s: got %v, %q; want %q", name, err, out.String(), test.want)
		}
	}
	status = http.StatusServiceUnavailable
	if err := (Program{Name: "p"}).Run(t.Context(), []string{"healthcheck", "--url", plain.URL + "/readyz"}, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a sick server: %v", err)
	}
}
