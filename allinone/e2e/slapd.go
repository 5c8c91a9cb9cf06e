package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// Directory is an LDAP server of a test's own: Debian's slapd with the memberOf
// overlay, as people have it. Users have
// the password that [password] says: pw- stands for what it begins with.
type Directory struct {
	Port, TLSPort int
	CA            string // authority of the server's certificate, PEM file
	process       *Process
}

// directoryPassword is that of the account that may read the directory, cn=admin.
const directoryPassword = canary + "-ldap"

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCertificateFile DIR/server.crt
TLSCertificateKeyFile DIR/server.key
disallow bind_anon
database mdb
suffix "dc=example,dc=com"
rootdn "cn=admin,dc=example,dc=com"
rootpw PASSWORD
directory DIR/db
dbnosync
maxsize 67108864
overlay memberof
memberof-group-oc groupOfNames
memberof-member-ad member
memberof-memberof-ad memberOf
`

// people is what is loaded: users in two units, one of whom has a name with
// characters that mean something in filters, and groups.
const people = `dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ou=users,dc=example,dc=com
objectClass: organizationalUnit
ou: users

dn: ou=far,ou=users,dc=example,dc=com
objectClass: organizationalUnit
ou: far

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: cn=Alice,ou=users,dc=example,dc=com
objectClass: inetOrgPerson
cn: Alice
sn: A
uid: alice
userPassword: pw-alice

dn: cn=Bob,ou=far,ou=users,dc=example,dc=com
objectClass: inetOrgPerson
cn: Bob
sn: B
uid: bob
userPassword: pw-bob

dn: cn=Star,ou=users,dc=example,dc=com
objectClass: inetOrgPerson
cn: Star
sn: S
uid: s*(t)\r
userPassword: pw-star

dn: cn=Twin One,ou=users,dc=example,dc=com
objectClass: inetOrgPerson
cn: Twin One
sn: T
uid: twin
userPassword: pw-twin

dn: cn=Twin Two,ou=users,dc=example,dc=com
objectClass: inetOrgPerson
cn: Twin Two
sn: T
uid: twin
userPassword: pw-twin

dn: cn=admins,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: admins
member: cn=Alice,ou=users,dc=example,dc=com

dn: cn=developers,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: developers
member: cn=Bob,ou=far,ou=users,dc=example,dc=com
`

// StartDirectory runs the server on loopback until t ends.
func StartDirectory(t testing.TB) *Directory {
	t.Helper()
	dir := t.TempDir()
	d := &Directory{Port: freePort(t), TLSPort: freePort(t), CA: filepath.Join(dir, "ca.crt")}
	ca := certstest.NewAuthority(t, "directory")
	cert, key := ca.Issue(t, certstest.Request{Names: []string{"127.0.0.1", "localhost"}})
	certstest.Write(t, d.CA, ca.Cert)
	certstest.Write(t, filepath.Join(dir, "server.crt"), cert)
	certstest.Write(t, filepath.Join(dir, "server.key"), key)
	certstest.Write(t, filepath.Join(dir, "slapd.conf"), []byte(strings.NewReplacer("DIR", dir, "PASSWORD", directoryPassword).Replace(slapdConf)))
	certstest.Write(t, filepath.Join(dir, "people.ldif"), []byte(strings.ReplaceAll(people, "pw-", password(""))))
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.process = &Process{Name: "slapd", Path: "/usr/sbin/slapd", Args: []string{"-d", "0", "-f", filepath.Join(dir, "slapd.conf"),
		"-h", "ldap://" + loopback(d.Port) + "/ ldaps://" + loopback(d.TLSPort) + "/"}}
	d.process.start(t)
	// Loading it online is what makes memberOf.
	add := []string{"-x", "-H", "ldap://" + loopback(d.Port), "-D", "cn=admin,dc=example,dc=com", "-w", directoryPassword, "-f", filepath.Join(dir, "people.ldif")}
	for deadline := time.Now().Add(readyWithin); ; {
		out, err := exec.Command("/usr/bin/ldapadd", add...).CombinedOutput()
		if err == nil {
			return d
		}
		if time.Now().After(deadline) {
			t.Fatalf("loading the directory: %v\n%s\n%s", err, out, d.process.tail())
		}
		time.Sleep(readyPause)
	}
}

// Modify changes an entry by LDIF.
func (d *Directory) Modify(t testing.TB, ldif string) {
	t.Helper()
	cmd := exec.Command("/usr/bin/ldapmodify", "-x", "-H", "ldap://"+loopback(d.Port), "-D", "cn=admin,dc=example,dc=com", "-w", directoryPassword)
	cmd.Stdin = strings.NewReader(ldif)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("changing the directory: %v\n%s", err, out)
	}
}

// Config returns the block http.auth.ldap of zot's guide for this directory, over
// TLS from the start.
func (d *Directory) Config() map[string]any {
	return map[string]any{
		"address": "127.0.0.1", "port": d.TLSPort, "startTLS": false, "baseDN": "ou=users,dc=example,dc=com",
		"userAttribute": "uid", "userGroupAttribute": "memberOf",
		"bindDN": "cn=admin,dc=example,dc=com", "bindPassword": directoryPassword,
		"skipVerify": false, "subtreeSearch": true, "cacert": d.CA,
	}
}

// Plain returns the same with other settings, and the port without TLS.
func (d *Directory) Plain(settings map[string]any) map[string]any {
	c := d.Config()
	c["port"] = strconv.Itoa(d.Port)
	for k, v := range settings {
		c[k] = v
	}
	return c
}
