package ldap

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/berth-registry/berth/registry/config"
)

const (
	dialTime      = 5 * time.Second
	operationTime = 10 * time.Second
	// idleTime is how long a connection may wait for work: less than what
	// firewalls and directories grant.
	idleTime = time.Minute
	// maxIdle is how many connections wait.
	maxIdle = 4
	// downTime is how long a directory that could not be reached is not tried again.
	downTime = 2 * time.Second
	// maxPacket bounds an answer of the directory, in bytes.
	maxPacket = 16 << 20
)

// pool holds connections of one kind.
type pool struct {
	open func() (*ldap.Conn, error)

	mu     sync.Mutex // guards all below
	idle   []idleConn // the last one waited least
	down   error      // why the directory could not be reached
	until  time.Time  // till then down is the answer
	closed bool
}

type idleConn struct {
	*ldap.Conn
	since time.Time
}

// do calls f with a connection. If that fails because an old connection is broken,
// it calls f again with a new one.
func (p *pool) do(f func(*ldap.Conn) error) error {
	for {
		c, old, err := p.get()
		if err != nil {
			return err
		}
		err = f(c)
		if broken(err) || c.IsClosing() {
			_ = c.Close()
			if old && err != nil {
				continue
			}
			return err
		}
		p.put(c)
		return err
	}
}

// broken reports whether err says that the connection is of no more use.
func broken(err error) bool {
	if err == nil {
		return false
	}
	e, ok := errors.AsType[*ldap.Error](err)
	return !ok || e.ResultCode >= ldap.ErrorNetwork || e.ResultCode == ldap.LDAPResultUnavailable || e.ResultCode == ldap.LDAPResultBusy
}

func (p *pool) get() (c *ldap.Conn, old bool, err error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		last := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(last.since) < idleTime && !last.IsClosing() {
			p.mu.Unlock()
			return last.Conn, true, nil
		}
		_ = last.Close()
	}
	if err := p.down; err != nil && time.Now().Before(p.until) {
		p.mu.Unlock()
		return nil, false, err
	}
	p.mu.Unlock()
	c, err = p.open()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.until = err, time.Now().Add(downTime)
	return c, false, err
}

func (p *pool) put(c *ldap.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdle {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, idleConn{c, time.Now()})
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}

// limitPackets has the decoder refuse answers that no honest directory gives.
var limitPackets = sync.OnceFunc(func() { ber.MaxPacketLengthBytes = maxPacket })

// dialer returns what makes a connection: with TLS from the start, by StartTLS, or
// in clear text if the file says so. There is no falling back from one to another.
func dialer(c *config.LDAP, log *slog.Logger) (func() (*ldap.Conn, error), error) {
	limitPackets()
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.Address, InsecureSkipVerify: c.SkipVerify}
	if c.CACert != "" {
		text, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("cacert: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("cacert: %s holds no certificate", c.CACert)
		}
	}
	scheme, port := "ldaps", c.Port
	if c.Insecure || c.StartTLS {
		scheme = "ldap"
	}
	switch {
	case port == 0 && scheme == "ldap":
		port = 389
	case port == 0:
		port = 636
	}
	switch {
	case scheme == "ldap" && !c.StartTLS:
		log.Warn("passwords go to the directory in clear text (http.auth.ldap.insecure)")
	case c.SkipVerify:
		log.Warn("the directory's certificate is not checked: whoever answers for it gets every password (http.auth.ldap.skipVerify)")
	}
	url := scheme + "://" + net.JoinHostPort(c.Address, strconv.Itoa(port))
	return func() (*ldap.Conn, error) {
		conn, err := ldap.DialURL(url, ldap.DialWithDialer(&net.Dialer{Timeout: dialTime}), ldap.DialWithTLSConfig(secure))
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", url, err)
		}
		conn.SetTimeout(operationTime)
		if c.StartTLS {
			if err := conn.StartTLS(secure); err != nil {
				return nil, errors.Join(fmt.Errorf("StartTLS with %s: %w", url, err), conn.Close())
			}
		}
		return conn, nil
	}, nil
}

// credentials returns name and password of the account that searches.
func credentials(c *config.LDAP) (dn string, password config.Secret, err error) {
	if c.CredentialsFile == "" {
		password, err = config.ReadSecret(c.BindPassword, c.BindPasswordFile)
		return c.BindDN, password, err
	}
	text, err := config.ReadSecret("", c.CredentialsFile)
	if err != nil {
		return "", "", fmt.Errorf("credentialsFile: %w", err)
	}
	var file struct {
		BindDN       string
		BindPassword string
	}
	// Errors of the decoder may quote what it read.
	if json.Unmarshal([]byte(text), &file) != nil || file.BindDN == "" || file.BindPassword == "" {
		return "", "", fmt.Errorf("credentialsFile: %s is not a JSON object with bindDN and bindPassword", c.CredentialsFile)
	}
	return file.BindDN, config.Secret(file.BindPassword), nil
}
