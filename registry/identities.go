package registry

import (
	"context"
	"strings"
	"time"
)

// Identities is the part of [Catalog] that knows who has credentials here: users
// as far as they have logged in elsewhere, service accounts, API keys, sessions,
// and the keys that sign tokens. Passwords are not here; secrets are kept as
// hashes.
type Identities interface {
	// Trust returns what a gateway needs to verify tokens by itself. have is the
	// Revision of the answer it has, 0 if none: an answer with the same Revision
	// has nothing else in it. It makes the first signing key, and a new one when the
	// last is older than [TokenKeyLife].
	Trust(ctx context.Context, have int64) (Trust, error)

	// RotateTokenKeys removes all signing keys and makes a new one: all tokens end.
	// a must be an administrator.
	RotateTokenKeys(ctx context.Context, a Actor) error

	// Login records that somebody has authenticated elsewhere, and which groups they
	// are in from now on. [ErrDenied] if the user is disabled, is a service account,
	// or is known with another origin: a name belongs to who came first.
	Login(ctx context.Context, l Login) (User, error)

	// AddCredential stores a credential that c.Owner can be known by: whoever shows
	// a secret with the given hash. a must be the owner, or an administrator; a
	// credential that has no owner yet needs neither. An API key that somebody else
	// makes gets the claims of [MadeFor]. [ErrTooManyRequests] if the
	// owner has [MaxCredentials] of the kind; [ErrParameterInvalid] if something of
	// it is too long.
	AddCredential(ctx context.Context, a Actor, c Credential, hash []byte) error

	// UseCredential returns the credential with a hash, and its owner.
	// [ErrUnauthorized] if there is none, if it has expired, or if the owner is
	// disabled. That it was used is written down soon, and lost in a crash before.
	UseCredential(ctx context.Context, kind CredentialKind, hash []byte) (Credential, User, error)

	// TakeCredential is UseCredential that removes it: who comes second gets
	// [ErrUnauthorized].
	TakeCredential(ctx context.Context, kind CredentialKind, hash []byte) (Credential, User, error)

	// ClaimCredential makes a the owner of a credential that has none, which gets the
	// claims of [ClaimedBy].
	// [ErrParameterInvalid] if there is none with this identity, or it has an owner.
	ClaimCredential(ctx context.Context, a Actor, kind CredentialKind, id string) error

	// Credentials lists those of an owner, the oldest first, at most
	// [MaxCredentials]. a must be the owner or an administrator.
	Credentials(ctx context.Context, a Actor, kind CredentialKind, owner string) ([]Credential, error)

	// RemoveCredential removes one of an owner. [ErrParameterInvalid] if there is
	// none. a must be the owner or an administrator.
	RemoveCredential(ctx context.Context, a Actor, kind CredentialKind, owner, id string) error

	// Users lists users that are known here, ordered by name. a must be an
	// administrator.
	Users(ctx context.Context, a Actor, p Page[string]) (List[User], error)

	// PutUser says of a user whether they are disabled, and makes or changes a
	// service account; of others Groups and Note stay as they are. A disabled user's
	// sessions and pending logins are gone when it returns. a must be an
	// administrator. [ErrDenied] if one who logs in elsewhere would become a service
	// account, or the other way round.
	PutUser(ctx context.Context, a Actor, u User) error

	// RemoveUser removes a user and all their credentials. One who logs in again is
	// known again. a must be an administrator.
	RemoveUser(ctx context.Context, a Actor, id string) error
}

// CredentialKind is what a credential is good for. A secret of one kind is never
// taken for one of another.
type CredentialKind string

// The kinds.
const (
	APIKey       CredentialKind = "key"     // in place of a password
	Session      CredentialKind = "session" // a browser's cookie
	RefreshToken CredentialKind = "refresh" // for the token service
	DeviceCode   CredentialKind = "device"  // a program that waits for its user
)

// Valid reports whether k is one of the kinds.
func (k CredentialKind) Valid() bool {
	return k == APIKey || k == Session || k == RefreshToken || k == DeviceCode
}

// Credential is a secret somebody can be known by, without the secret.
type Credential struct {
	Kind  CredentialKind
	ID    string // unique within its kind
	Owner string // Actor.ID, "" for a [DeviceCode] nobody has claimed
	Label string // for people
	// Scopes limit it, as the gateway reads them. Empty: no limit.
	Scopes []string
	// Claims are of whom it was made, for access conditions.
	Claims  map[string]string
	Agent   string // the User-Agent of who made it
	Created int64  // microseconds since 1970, set by the Catalog
	Expires int64  // 0: never
	Used    int64  // last, 0: never
}

// Expired reports whether c is not good any more.
func (c Credential) Expired(now time.Time) bool {
	return c.Expires != 0 && c.Expires <= now.UnixMicro()
}

// Bounds of what [Identities] keeps.
const (
	MaxCredentials  = 1000    // of one kind and owner
	MaxUserName     = 255     // bytes
	MaxUserGroups   = 1000    // of a user
	MaxDisabled     = 10_000  // users
	MaxCredentialID = 64      // bytes
	MaxLabel        = 500     // bytes
	maxScopes       = 100     // of a credential
	maxScopeText    = 500     // bytes of each
	maxClaimBytes   = 8 << 10 // of a credential's claims, or a user's groups
)

// Check returns an error if c can't be stored.
func (c Credential) Check() error {
	switch {
	case !c.Kind.Valid():
		return ErrParameterInvalid.With("no such kind of credential")
	case c.ID == "" || len(c.ID) > MaxCredentialID:
		return ErrParameterInvalid.With("a credential's identity has 1 to %d bytes", MaxCredentialID)
	case len(c.Label) > MaxLabel || len(c.Agent) > MaxLabel:
		return ErrParameterInvalid.With("a label has at most %d bytes", MaxLabel)
	case len(c.Scopes) > maxScopes:
		return ErrParameterInvalid.With("a credential has at most %d scopes", maxScopes)
	}
	for _, s := range c.Scopes {
		if len(s) > maxScopeText {
			return ErrParameterInvalid.With("a scope has at most %d bytes", maxScopeText)
		}
	}
	n := 0
	for k, v := range c.Claims {
		n += len(k) + len(v)
	}
	if n > maxClaimBytes {
		return ErrParameterInvalid.With("claims have at most %d bytes", maxClaimBytes)
	}
	if c.Owner == "" {
		if c.Kind != DeviceCode {
			return ErrParameterInvalid.With("a credential needs an owner")
		}
		return nil
	}
	return CheckUser(c.Owner)
}

// CheckUser returns an error if nobody can have the name.
func CheckUser(id string) error {
	if id == "" || len(id) > MaxUserName || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return ErrParameterInvalid.With("a user's name has 1 to %d bytes, none of them a control character", MaxUserName)
	}
	return nil
}

// CheckGroups returns an error if there is no room for the groups.
func CheckGroups(groups []string) error {
	n := 0
	for _, g := range groups {
		n += len(g)
	}
	if len(groups) > MaxUserGroups || n > maxClaimBytes {
		return ErrParameterInvalid.With("a user is in at most %d groups, whose names have %d bytes together", MaxUserGroups, maxClaimBytes)
	}
	return nil
}

// Login is somebody who has authenticated elsewhere.
type Login struct {
	ID     string
	Groups []string
	// Origin says where, and as whom: that of a name never changes. "" if it is of
	// no interest.
	Origin string
}

// User is who has credentials here.
type User struct {
	ID       string
	Service  bool // a program, which never logs in but has API keys
	Disabled bool
	Groups   []string // at the last login; of a service account as they were set
	Note     string   // for people
	Created  int64    // microseconds since 1970
	Seen     int64    // the last login, 0: never
}

// Trust is what tokens are verified with.
type Trust struct {
	// Revision grows whenever a credential or a user's rights were taken away.
	Revision int64
	// Keys verify tokens; the first signs them.
	Keys []SigningKey
	// Disabled users, whose tokens are not good any more.
	Disabled []string
}

// SigningKey is a key of the token service.
type SigningKey struct {
	ID   string
	Seed []byte // of an Ed25519 key (RFC 8032), 32 bytes: secret
	// Until is when it verifies no more, in microseconds since 1970.
	Until int64
}

// The life of signing keys: a key signs for TokenKeyLife, and verifies for
// TokenKeyGrace longer, which is longer than a token lives.
const (
	TokenKeyLife  = 30 * 24 * time.Hour
	TokenKeyGrace = 24 * time.Hour
)
