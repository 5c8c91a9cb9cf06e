package cel

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
)

func question() access.Question {
	return access.Question{
		Actor: registry.Actor{
			ID: "dev", Claims: map[string]string{"iss": "ci", "name": "true"}, JSONClaims: map[string]string{"ok": "true", "teams": `["x","y"]`, "broken": "{"},
			Request: &registry.ActorRequest{Method: "GET", UserAgent: "docker/28", ClientIP: "10.1.2.3", ForwardedFor: []string{"1.2.3.4"}, TLS: "1.3"},
		},
		Groups: []string{"devs"}, Action: "read", Repo: "a/b", Ref: registry.Reference{Tag: "v1"},
	}
}

// TestConditions holds each variable that zot has, and that what has no value grants
// nothing.
func TestConditions(t *testing.T) {
	for expression, want := range map[string]string{
		`true`: "yes", `false`: "no",
		`req.method == "GET" && req.userAgent.startsWith("docker/")`:             "yes",
		`req.action == "read" && req.repository == "a/b"`:                        "yes",
		`req.reference == "v1" && req.referenceType == "tag" && req.tag == "v1"`: "yes",
		`req.digest == ""`:                                                         "yes",
		`req.time.getFullYear() > 2020`:                                            "yes",
		`user.username == "dev" && "devs" in user.groups`:                          "yes",
		`auth.anonymous || auth.admin`:                                             "no",
		`client.ip == "10.1.2.3" && client.forwardedFor.exists(a, a == "1.2.3.4")`: "yes",
		`tls.enabled && tls.version == "1.3"`:                                      "yes",
		`claims.iss == "ci" && claims.ok && claims.teams.exists(x, x == "y")`:      "yes",
		`claims.name == true`:                                                      "no", // text is not what it looks like
		`claims.broken == ""`:                                                      "error",
		`claims.missing == "x"`:                                                    "error",
		`has(claims.missing)`:                                                      "no",
		`req.nothing == 1`:                                                         "error",
		`claims.iss`:                                                               "error", // not true or false
		`1 / 0 == 1`:                                                               "error",
		`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a+b+c+d > 0))))`: "error", // too much
	} {
		c, err := Compile(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		ok, err := c.Holds(question())
		got := map[bool]string{true: "yes", false: "no"}[ok]
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", expression, got, err, want)
		}
	}
	for _, bad := range []string{"", "x", "1", `"yes"`, "req.method ==", "user", `import("os")`, `os.exit(1)`, strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), strings.Repeat(" ", maxExpression) + "true"} {
		if _, err := Compile(bad); err == nil {
			t.Errorf("%.40q is taken for a condition", bad)
		}
	}
}

// TestS117Conditions: patterns and loops that would take long are refused when they are
// compiled, or end without a value; then they grant nothing.
func TestS117Conditions(t *testing.T) {
	list := "[1" + strings.Repeat(",1", 60) + "]"
	for _, expression := range []string{
		`req.repository.matches("(a{1000}){1000}")`,
		`req.repository.matches("((((a{100}){100}){100}){100})")`,
		list + ".all(a, " + list + ".all(b, " + list + ".all(c, a+b+c > 0)))",
		list + ".map(a, " + list + ".map(b, " + list + ".map(c, a+b+c))).size() > 0",
		strings.Repeat(`"aaaaaaaaaaaaaaaaaaaaaaaa" + `, 100) + `"a" == ""`,
		strings.Repeat("!", 5000) + "true",
		strings.Repeat("[", 200) + strings.Repeat("]", 200) + " == []",
	} {
		c, err := Compile(expression)
		if err != nil {
			continue
		}
		if ok, err := c.Holds(question()); ok {
			t.Errorf("%.60s holds, %v", expression, err)
		}
	}
}

// FuzzCompile compiles and evaluates any text: no panic, and an end.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{`req.method == "GET"`, `client.forwardedFor.exists(a, a.matches("^(a+)+$"))`, `claims.teams.all(x, x > "")`, `"a".matches("(a|aa)+$")`} {
		f.Add(s)
	}
	q := question()
	f.Fuzz(func(t *testing.T, expression string) {
		c, err := Compile(expression)
		if err != nil {
			return
		}
		_, _ = c.Holds(q)
	})
}
