//go:build e2e

package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// An internet is where a mirror finds other registries by their own names, over
// HTTPS and through a proxy, as it would from behind a firewall. A server of the
// test stands for each of them.
type internet struct {
	env []string // of programs that live in it

	front string // the one TLS server of all sites

	mu    sync.Mutex // guards what follows
	sites map[string]*site
	down  bool // nobody is reached
	conns map[net.Conn]bool
}

// site is a registry of an internet.
type site struct {
	backend        string // host:port, plain HTTP
	user, password string // who may ask; "": everybody
	requests       []string
}

// newInternet makes an internet of the sites with those names, for as long as the
// test.
func newInternet(t *testing.T, sites map[string]*site) *internet {
	t.Helper()
	n := &internet{sites: sites, conns: map[net.Conn]bool{}}
	var names []string
	for name := range sites {
		names = append(names, name)
	}
	files := certstest.NewAuthority(t, "internet").Save(t, filepath.Join(t.TempDir(), "certs"), certstest.Request{Names: names})
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	n.front = listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(n.serve)}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	proxy := serveLoopback(t, http.HandlerFunc(n.connect))
	t.Cleanup(func() { n.setDown(true) })
	n.env = []string{"HTTPS_PROXY=http://" + proxy, "SSL_CERT_FILE=" + files.CA, "NO_PROXY="}
	return n
}

// setDown cuts all connections off and lets none be made, or lets them again.
func (n *internet) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	if down {
		for c := range n.conns {
			c.Close()
		}
	}
}

// asked returns the requests that a site has got.
func (n *internet) asked(name string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sites[name].requests
}

// connect is the proxy: it passes on what comes after CONNECT.
func (n *internet) connect(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	n.mu.Lock()
	reached := !n.down && n.sites[host] != nil
	n.mu.Unlock()
	if !reached {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	to, err := net.Dial("tcp", n.front)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer to.Close()
	from, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	n.mu.Lock()
	n.conns[from] = true
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.conns, from)
		n.mu.Unlock()
	}()
	if _, err := io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		io.Copy(to, from)
		to.Close()
		close(done)
	}()
	io.Copy(from, to)
	from.Close()
	<-done
}

// serve is every site.
func (n *internet) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	s := n.sites[r.Host]
	if s != nil {
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	}
	n.mu.Unlock()
	if s == nil {
		http.Error(w, "no such site", http.StatusMisdirectedRequest)
		return
	}
	if user, password, _ := r.BasicAuth(); s.user != "" && (user != s.user || password != s.password) {
		w.Header().Set("Www-Authenticate", `Basic realm="site"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: s.backend})
		p.Out.Header.Del("Authorization")
	}}
	proxy.ServeHTTP(w, r)
}
