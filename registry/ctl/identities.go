package ctl

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/scope"
)

// UserCommands are commands about users that the catalog knows, for the group
// "user" of a program.
func UserCommands(program string) []cli.Command {
	name := program + " user "
	return []cli.Command{
		command("logins", "", "list users that have logged in at a provider or have API keys, and service accounts", name+"logins --config config.json", 0, users),
		command("disable", "USER", "keep a user out: sessions end at once; passwords, keys and tokens within 10 seconds", name+"disable --config config.json alice", 1, disable(true)),
		command("enable", "USER", "let a disabled user in again; API keys are good again, too", name+"enable --config config.json alice", 1, disable(false)),
		command("forget", "USER", "remove what is known of a user, and all API keys and sessions", name+"forget --config config.json alice", 1, forget),
	}
}

// IdentityCommands are the groups "key" and "serviceaccount" of a program.
func IdentityCommands(program string) []cli.Command {
	var key, account credentialFlags
	keyName, accountName := program+" key ", program+" serviceaccount "
	return []cli.Command{
		cli.Group(cli.Command{Name: "key", Args: "COMMAND", Summary: "API keys of users and service accounts", Example: keyName + "create --config config.json ci"},
			command("list", "USER", "list the API keys of a user", keyName+"list --config config.json alice", 1, keys),
			commandWith("create", "USER", "make an API key and print it, once", keyName+"create --config config.json --scope 'team/**:pull,push' --expires 720h ci", 1, key.define, key.create),
			command("remove", "USER ID", "end an API key; where it was used it is gone within 10 seconds", keyName+"remove --config config.json ci 8d3f…", 2, removeKey),
			command("rotate", "", "replace the keys that sign tokens: all tokens end within 10 seconds, and clients get new ones", keyName+"rotate --config config.json", 0, rotate),
		),
		cli.Group(cli.Command{Name: "serviceaccount", Args: "COMMAND", Summary: "accounts of programs, which have API keys and no password", Example: accountName + "create --config config.json ci"},
			command("list", "", "list service accounts", accountName+"list --config config.json", 0, accounts),
			commandWith("create", "NAME", "make a service account, or change its groups and note", accountName+"create --config config.json --group builders ci", 1, account.defineAccount, account.account),
			command("remove", "NAME", "remove a service account and its API keys", accountName+"remove --config config.json ci", 1, forget),
		),
		login(program),
	}
}

type texts []string

func (t *texts) String() string     { return strings.Join(*t, ",") }
func (t *texts) Set(s string) error { *t = append(*t, s); return nil }

// credentialFlags are the flags of what makes keys and accounts.
type credentialFlags struct {
	label, note    string
	scopes, groups texts
	expires        time.Duration
}

func (f *credentialFlags) define(flags *flag.FlagSet) {
	*f = credentialFlags{}
	flags.StringVar(&f.label, "label", "", "`TEXT` that says what it is for")
	flags.Var(&f.scopes, "scope", "`PATTERN[:ACTION,...]` of repositories and pull, push, delete that it is good for; may be repeated. None: all that the user may do")
	flags.DurationVar(&f.expires, "expires", 0, "`TIME` after which it ends, such as 720h; 0: never")
}

func (f *credentialFlags) defineAccount(flags *flag.FlagSet) {
	*f = credentialFlags{}
	flags.StringVar(&f.note, "note", "", "`TEXT` that says what it is for")
	flags.Var(&f.groups, "group", "`GROUP` that it is in; may be repeated")
}

func users(ctx context.Context, c *call) error    { return c.listUsers(ctx, false) }
func accounts(ctx context.Context, c *call) error { return c.listUsers(ctx, true) }

func (c *call) listUsers(ctx context.Context, servicesOnly bool) error {
	c.out.header("USER", "KIND", "STATE", "LAST LOGIN", "GROUPS", "NOTE")
	for p := (registry.Page[string]{Limit: 1000}); ; {
		list, err := c.Catalog.Users(ctx, operator, p)
		if err != nil {
			return err
		}
		for _, u := range list.Items {
			p.After = u.ID
			if servicesOnly && !u.Service {
				continue
			}
			kind, state := "user", "active"
			if u.Service {
				kind = "service"
			}
			if u.Disabled {
				state = "disabled"
			}
			c.out.row(map[string]any{
				"user": u.ID, "service": u.Service, "disabled": u.Disabled, "groups": u.Groups, "note": u.Note, "created": stamp(u.Created), "seen": stamp(u.Seen),
			}, u.ID, kind, state, orDash(stamp(u.Seen)), orDash(strings.Join(u.Groups, ",")), orDash(u.Note))
		}
		if !list.More {
			return nil
		}
	}
}

func stamp(us int64) string {
	if us == 0 {
		return ""
	}
	return time.UnixMicro(us).UTC().Format(time.RFC3339)
}

// user looks up who is known by a name.
func (c *call) user(ctx context.Context, id string) (registry.User, error) {
	u, ok, err := registry.FindUser(ctx, c.Catalog, operator, id)
	if !ok {
		u.ID = id
	}
	return u, err
}

func disable(off bool) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		u, err := c.user(ctx, c.args[0])
		if err != nil {
			return err
		}
		u.Disabled = off
		return c.Catalog.PutUser(ctx, operator, u)
	}
}

func forget(ctx context.Context, c *call) error {
	return c.Catalog.RemoveUser(ctx, operator, c.args[0])
}

func rotate(ctx context.Context, c *call) error { return c.Catalog.RotateTokenKeys(ctx, operator) }

func (f *credentialFlags) account(ctx context.Context, c *call) error {
	u, err := c.user(ctx, c.args[0])
	if err != nil {
		return err
	}
	u.Service, u.Groups, u.Note = true, f.groups, f.note
	return c.Catalog.PutUser(ctx, operator, u)
}

func keys(ctx context.Context, c *call) error {
	all, err := c.Catalog.Credentials(ctx, operator, registry.APIKey, c.args[0])
	if err != nil {
		return err
	}
	c.out.header("ID", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED")
	for _, k := range all {
		c.out.row(map[string]any{
			"id": k.ID, "label": k.Label, "scopes": k.Scopes, "created": stamp(k.Created), "expires": stamp(k.Expires), "used": stamp(k.Used), "expired": k.Expired(time.Now()),
		}, k.ID, orDash(k.Label), orDash(strings.Join(k.Scopes, " ")), stamp(k.Created), orDash(stamp(k.Expires)), orDash(stamp(k.Used)))
	}
	return nil
}

func (f *credentialFlags) create(ctx context.Context, c *call) error {
	if f.expires < 0 {
		return usage("--expires must not be negative")
	}
	secret := registry.NewSecret(registry.APIKeyPrefix)
	hash := registry.SecretHash(registry.APIKey, secret)
	k := registry.Credential{Kind: registry.APIKey, ID: strings.ToLower(rand.Text()), Owner: c.args[0], Label: f.label, Scopes: f.scopes, Agent: "berth key create"}
	for _, s := range f.scopes {
		if _, err := scope.Parse(s); err != nil {
			return usage("--scope: %w", err)
		}
	}
	if f.expires > 0 {
		k.Expires = time.Now().Add(f.expires).UnixMicro()
	}
	if err := c.Catalog.AddCredential(ctx, operator, k, hash[:]); err != nil {
		return err
	}
	c.out.pairs(map[string]any{"id": k.ID, "user": k.Owner, "key": secret, "expires": stamp(k.Expires)},
		"user", k.Owner, "key", secret, "id", k.ID, "expires", orDash(stamp(k.Expires)))
	return nil
}

func removeKey(ctx context.Context, c *call) error {
	err := c.Catalog.RemoveCredential(ctx, operator, registry.APIKey, c.args[0], c.args[1])
	if errors.Is(err, registry.ErrParameterInvalid) {
		return registry.ErrParameterInvalid.With("%s has no API key %s", c.args[0], c.args[1])
	}
	return err
}
