package ldap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/gateway/auth"
)

const (
	// How long the directory's answers are remembered.
	rememberYes = time.Minute
	rememberNo  = 10 * time.Second
	// presenceLife is how long it is remembered that the directory has a user. With
	// the time of a search it stays below auth.RosterLife.
	presenceLife = auth.RosterLife - operationTime
	// maxUser and maxPassword bound what is sent to the directory, in bytes.
	maxUser     = 255
	maxPassword = 1024
	// maxGroups bounds how many groups of a user count.
	maxGroups = 1000
	// logins is how many are checked at a time.
	logins = 16
)

// Directory is the method "ldap".
type Directory struct {
	c      config.LDAP
	filter string // of users, in parentheses; "" if there is none
	known  *auth.Remember
	there  *auth.Presence
	slots  *auth.Slots
	log    *slog.Logger
	search pool // bound as the account that may search
	bind   pool // bound as whoever logged in last
}

// Open returns the method for a directory, which need not be up yet. It has the
// signature that [auth.Parts] asks for.
func Open(_ context.Context, c *config.LDAP, e auth.Env) (auth.Method, error) { return open(c, e) }

func open(c *config.LDAP, e auth.Env) (*Directory, error) {
	d := &Directory{
		c:      *c,
		filter: c.UserFilter,
		known:  auth.NewRemember("ldap", rememberYes, rememberNo),
		there:  auth.NewPresence(presenceLife),
		slots:  auth.NewSlots(logins),
		log:    e.Log.With("method", "ldap"),
	}
	if d.filter != "" && !strings.HasPrefix(d.filter, "(") {
		d.filter = "(" + d.filter + ")"
	}
	if strings.Trim(c.UserAttribute, attributeCharacters) != "" {
		return nil, fmt.Errorf("userAttribute: %q is not the name of an attribute", c.UserAttribute)
	}
	if err := d.checkFilter(); err != nil {
		return nil, fmt.Errorf("userFilter: %w", err)
	}
	if _, err := ldap.ParseDN(c.BaseDN); err != nil {
		return nil, fmt.Errorf("baseDN: %w", err)
	}
	if _, _, err := credentials(c); err != nil {
		return nil, err
	}
	dial, err := dialer(c, d.log)
	if err != nil {
		return nil, err
	}
	d.bind.open = dial
	d.search.open = func() (*ldap.Conn, error) {
		dn, password, err := credentials(c) // the file may have changed
		if err != nil {
			return nil, err
		}
		conn, err := dial()
		if err != nil {
			return nil, err
		}
		if err := conn.Bind(dn, string(password)); err != nil {
			return nil, errors.Join(fmt.Errorf("binding as %q: %w", dn, err), conn.Close())
		}
		return conn, nil
	}
	return d, nil
}

// Name implements [auth.Method].
func (d *Directory) Name() string { return "ldap" }

// Close closes the connections.
func (d *Directory) Close() error {
	d.search.close()
	d.bind.close()
	return nil
}

// Known implements [auth.Knower].
func (d *Directory) Known(q *auth.Request) bool {
	return d.known.Known(q.Basic.User, q.Basic.Password, "")
}

// Authenticate implements [auth.Method].
func (d *Directory) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	user, password := q.Basic.User, q.Basic.Password
	if !sendable(user, password) {
		return registry.Actor{}, auth.Unknown, nil
	}
	a, err := d.known.Ask(ctx, user, password, "", func(ctx context.Context) (a registry.Actor, err error) {
		failed := d.slots.Login(ctx, q, func() { a, err = d.login(user, password) })
		return a, errors.Join(failed, err)
	})
	switch {
	case errors.Is(err, registry.ErrTooManyRequests) || err != nil && ctx.Err() != nil:
		return registry.Actor{}, auth.Unknown, err
	case err != nil:
		d.log.Error("the directory can't be asked", "error", err.Error())
		return registry.Actor{}, auth.Unknown, registry.ErrUnavailable.With("the directory can't be asked").Because(err)
	case a.ID == "":
		return a, auth.Unknown, nil
	}
	return a, auth.Accepted, nil
}

var via = auth.Via("ldap")

// Has implements [auth.Roster]: one search, at most once in a while for each user. A
// user whom the filter leaves out is gone, too. While the directory can't be asked
// nobody can tell, and what needs the answer is refused as unavailable.
func (d *Directory) Has(ctx context.Context, user string) (bool, error) {
	if !sendable(user, "x") {
		return false, nil
	}
	has, err := d.there.Ask(user, func() (has bool, err error) {
		failed := d.slots.Do(ctx, "", func() {
			var e *ldap.Entry
			e, err = d.find(user)
			has = e != nil
		})
		return has, errors.Join(failed, err)
	})
	if err != nil && !errors.Is(err, registry.ErrTooManyRequests) && ctx.Err() == nil {
		d.log.Error("the directory can't be asked", "error", err.Error())
		err = registry.ErrUnavailable.With("the directory can't be asked").Because(err)
	}
	return has, err
}

// keyLength is the length of API keys, zot's and ours.
var keyLength = len(registry.NewSecret(registry.APIKeyPrefix))

// sendable reports whether name and password are what a directory may be asked.
// Some take a password to end at a NUL, so one of NULs is empty. What looks like an API key
// is none of their passwords: a key that has ended, and is tried again and again, is not
// shown to a directory, which would lock its owner out.
func sendable(user, password string) bool {
	return user != "" && len(user) <= maxUser && !strings.ContainsRune(user, 0) &&
		password != "" && password[0] != 0 && len(password) <= maxPassword &&
		!(strings.HasPrefix(password, registry.APIKeyPrefix) && len(password) == keyLength)
}

// login asks the directory: one search, one bind.
func (d *Directory) login(user, password string) (registry.Actor, error) {
	e, err := d.find(user)
	if err != nil {
		return registry.Actor{}, err
	}
	dn := d.nobody()
	if e != nil {
		dn = e.DN
	}
	right, err := d.bindAs(dn, password)
	if err != nil || !right || e == nil {
		return registry.Actor{}, err
	}
	a := registry.Actor{ID: d.name(e, user), Claims: via}
	if d.c.UserGroupAttribute != "" {
		groups := e.GetEqualFoldAttributeValues(d.c.UserGroupAttribute)
		a.Groups = groups[:min(len(groups), maxGroups)]
	}
	return a, nil
}

// query returns the filter that finds a user.
func (d *Directory) query(user string) string {
	is := "(" + d.c.UserAttribute + "=" + ldap.EscapeFilter(user) + ")"
	if d.filter == "" {
		return is
	}
	return "(&" + d.filter + is + ")"
}

// attributeCharacters are those that names and numbers of attributes are made of
// (RFC 4512, section 2.5).
const attributeCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.;"

// checkFilter makes sure that the filter asks for the user: the library takes one
// whose parentheses do not match for another one.
func (d *Directory) checkFilter() error {
	p, err := ldap.CompileFilter(d.query("user"))
	if err != nil {
		return err
	}
	if d.filter != "" {
		if p.Tag != ldap.FilterAnd || len(p.Children) < 2 {
			return errors.New("it is not a filter")
		}
		p = p.Children[len(p.Children)-1]
	}
	if p.Tag != ldap.FilterEqualityMatch || len(p.Children) != 2 || p.Children[1].Data.String() != "user" {
		return errors.New("it is not a filter")
	}
	return nil
}

// find returns the user's entry, nil if there is not exactly one.
func (d *Directory) find(user string) (*ldap.Entry, error) {
	scope := ldap.ScopeSingleLevel
	if d.c.SubtreeSearch {
		scope = ldap.ScopeWholeSubtree
	}
	attributes := []string{d.c.UserAttribute}
	if d.c.UserGroupAttribute != "" {
		attributes = append(attributes, d.c.UserGroupAttribute)
	}
	q := ldap.NewSearchRequest(d.c.BaseDN, scope, ldap.NeverDerefAliases, 2, int(operationTime/time.Second), false, d.query(user), attributes, nil)
	var found *ldap.SearchResult
	err := d.search.do(func(c *ldap.Conn) (err error) {
		found, err = c.Search(q)
		return err
	})
	switch {
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultSizeLimitExceeded):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("searching: %w", err)
	case len(found.Entries) != 1 || found.Entries[0].DN == "":
		return nil, nil
	}
	return found.Entries[0], nil
}

// nobody returns a name that no entry has, to bind as in place of an unknown user.
func (d *Directory) nobody() string {
	return "cn=" + auth.RandomName() + "," + d.c.BaseDN
}

// bindAs reports whether password is that of the entry dn.
func (d *Directory) bindAs(dn, password string) (bool, error) {
	err := d.bind.do(func(c *ldap.Conn) error { return c.Bind(dn, password) })
	switch {
	case err == nil:
		return true, nil
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax,
		// What directories say of accounts that are locked or have expired.
		ldap.LDAPResultConstraintViolation, ldap.LDAPResultInappropriateAuthentication,
		ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform):
		return false, nil
	}
	return false, fmt.Errorf("binding as a user: %w", err)
}

// name returns who the user is: as the directory spells it, because it finds
// "alice" under "Alice", too, and one person must not be two users.
func (d *Directory) name(e *ldap.Entry, typed string) string {
	values := e.GetEqualFoldAttributeValues(d.c.UserAttribute)
	for _, v := range values {
		if strings.EqualFold(v, typed) {
			return v
		}
	}
	if len(values) > 0 {
		return values[0]
	}
	return typed
}
