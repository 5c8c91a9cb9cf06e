//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A loginWay is a way to show who one is, to a registry of its own.
type loginWay struct {
	name string // column of the table
	addr string // of the registry

	// What the client's own login is given; wrong is refused. If there is no user,
	// nobody logs in by the client: docker's configuration file has kept, as another
	// program has left it.
	user, password, wrong string
	kept                  string

	mine, others string            // prefixes of names: pushes to one are allowed, to the other, if any, refused
	none         map[string]string // why there is no such cell, by client
}

// refusedWithin is how long a client may take to see that it is refused: none tries
// again, and a busy machine is slow.
const refusedWithin = 15 * time.Second

// use logs in, pushes, pulls and logs out. Before and after, all is refused.
func (w *loginWay) use(t *testing.T, client tokenClient) {
	run := client.commands(t)
	repo := w.mine + client.name + "/" + strings.NewReplacer(" ", "-", "`", "").Replace(strings.ToLower(w.name))
	must := func(what string) func(stdout, stderr string, err error) {
		return func(stdout, stderr string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v\n%s%s", what, err, stdout, stderr)
			}
		}
	}
	refused := func(what string, try func() (string, string, error)) {
		t.Helper()
		began := time.Now()
		stdout, stderr, err := try()
		if took := time.Since(began); err == nil || took > refusedWithin {
			t.Errorf("%s: %v after %v\n%s%s", what, err, took, stdout, stderr)
		}
	}
	push := func(repo string) func() (string, string, error) {
		return func() (string, string, error) { return client.push(run, w.addr, repo) }
	}
	refused("a push without a login", push(repo))
	file := filepath.Join(run.home, ".docker", "config.json")
	if w.user == "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(w.kept), 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		if client.believing {
			must("a login that nobody is asked about")(client.login(run, w.addr, w.user, w.wrong))
			refused("a push after a login with a wrong password", push(repo))
		} else {
			refused("a login with a wrong password", func() (string, string, error) { return client.login(run, w.addr, w.user, w.wrong) })
		}
		must("login")(client.login(run, w.addr, w.user, w.password))
	}
	must("push")(push(repo)())
	must("pull")(client.pull(run, w.addr, repo))
	if w.others != "" {
		refused("a push of another's name", push(w.others+client.name))
	}
	if w.user == "" {
		must("logout")(run.Try(docker, "logout", w.addr))
	} else {
		must("logout")(client.logout(run, w.addr))
	}
	refused("a pull after the logout", func() (string, string, error) { return client.pull(run, w.addr, repo) })
}

// loginTable collects who can log in how.
type loginTable struct {
	ways, clients []string
	marks         map[[2]string]string // by client and way
	notes         []string
}

// cell runs a client by one way, or notes why there is none.
func (l *loginTable) cell(t *testing.T, way, client, none string, run func(t *testing.T)) {
	if l.marks == nil {
		l.marks = make(map[[2]string]string)
	}
	if !slices.Contains(l.ways, way) {
		l.ways = append(l.ways, way)
	}
	if !slices.Contains(l.clients, client) {
		l.clients = append(l.clients, client)
	}
	mark := "✓"
	if none != "" {
		note := fmt.Sprintf("* %s, %s: %s", client, way, none)
		l.notes, mark = append(l.notes, note), "–"
	} else if !t.Run(way+"/"+client, run) {
		mark = "**fails**"
	}
	l.marks[[2]string{client, way}] = mark
}

// String returns the table, and the notes below it.
func (l *loginTable) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| client | %s |\n|---|%s\n", strings.Join(l.ways, " | "), strings.Repeat("---|", len(l.ways)))
	for _, client := range l.clients {
		fmt.Fprintf(&b, "| %s |", client)
		for _, way := range l.ways {
			fmt.Fprintf(&b, " %s |", l.marks[[2]string{client, way}])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for _, note := range l.notes {
		b.WriteString(note + "\n")
	}
	return b.String()
}
