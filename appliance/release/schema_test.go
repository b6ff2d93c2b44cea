package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A description is kra/openapi.yaml, as far as the test holds the server to it.
type description struct {
	Paths      map[string]map[string]operation `yaml:"paths"`
	Components struct {
		Schemas map[string]*schema `yaml:"schemas"`
	} `yaml:"components"`
}

type operation struct {
	Security  []map[string][]string `yaml:"security"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema *schema `yaml:"schema"`
		} `yaml:"content"`
	} `yaml:"responses"`
	Answers map[string]map[string]int `yaml:"x-answers"` // state -> certificate -> status
	Sealed  map[string]map[string]int `yaml:"x-answers-sealed"`
	Named   map[string]map[string]int `yaml:"x-answers-named"`
}

// A schema is the part of JSON Schema that the description uses. An unknown keyword fails the test that reads it.
type schema struct {
	Ref         string             `yaml:"$ref"`
	Type        string             `yaml:"type"`
	Description string             `yaml:"description"`
	Encoding    string             `yaml:"contentEncoding"`
	Const       any                `yaml:"const"`
	Enum        []string           `yaml:"enum"`
	Pattern     string             `yaml:"pattern"`
	MinLength   int                `yaml:"minLength"`
	MaxLength   *int               `yaml:"maxLength"`
	Minimum     *float64           `yaml:"minimum"`
	MinItems    int                `yaml:"minItems"`
	MaxItems    *int               `yaml:"maxItems"`
	Items       *schema            `yaml:"items"`
	Required    []string           `yaml:"required"`
	Properties  map[string]*schema `yaml:"properties"`
	Additional  *bool              `yaml:"additionalProperties"`
	OneOf       []*schema          `yaml:"oneOf"`
}

func readDescription(t testing.TB) *description {
	t.Helper()
	text, err := os.ReadFile("../../kra/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Components struct {
			Schemas yaml.Node `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	schemas, err := yaml.Marshal(&whole.Components.Schemas)
	if err != nil {
		t.Fatal(err)
	}
	strict := yaml.NewDecoder(bytes.NewReader(schemas))
	strict.KnownFields(true)
	if err := strict.Decode(&map[string]*schema{}); err != nil {
		t.Fatal(err)
	}
	return &d
}

// check holds body to a schema.
func (d *description) check(s *schema, body []byte) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return d.value("$", s, v)
}

func (d *description) value(at string, s *schema, v any) error {
	if s.Ref != "" {
		target := d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		if target == nil {
			return fmt.Errorf("%s: dangling %s", at, s.Ref)
		}
		return d.value(at, target, v)
	}
	if len(s.OneOf) > 0 {
		return d.oneOf(at, s, v)
	}
	switch x := v.(type) {
	case map[string]any:
		return d.object(at, s, x)
	case []any:
		return d.array(at, s, x)
	case string:
		return stringOf(at, s, x)
	case float64:
		if s.Type != "integer" || x != float64(int64(x)) || s.Minimum != nil && x < *s.Minimum {
			return fmt.Errorf("%s: %v is no %s", at, x, s.Type)
		}
		return nil
	case bool:
		if s.Type != "boolean" || s.Const != nil && s.Const != any(x) {
			return fmt.Errorf("%s: %v is no %s", at, x, s.Type)
		}
		return nil
	}
	return fmt.Errorf("%s: %v is no %s", at, v, s.Type)
}

func (d *description) oneOf(at string, s *schema, v any) error {
	fit, why := 0, ""
	for _, o := range s.OneOf {
		if err := d.value(at, o, v); err != nil {
			why += "; " + err.Error()
		} else {
			fit++
		}
	}
	if fit != 1 {
		return fmt.Errorf("%s: %d of %d alternatives fit%s", at, fit, len(s.OneOf), why)
	}
	return nil
}

func (d *description) object(at string, s *schema, x map[string]any) error {
	if s.Type != "object" {
		return fmt.Errorf("%s: an object is no %s", at, s.Type)
	}
	for _, name := range s.Required {
		if _, ok := x[name]; !ok {
			return fmt.Errorf("%s: no %s", at, name)
		}
	}
	for name, v := range x {
		p := s.Properties[name]
		if p == nil && s.Additional != nil && !*s.Additional {
			return fmt.Errorf("%s: %s is not described", at, name)
		}
		if p == nil {
			continue
		}
		if err := d.value(at+"."+name, p, v); err != nil {
			return err
		}
	}
	return nil
}

func (d *description) array(at string, s *schema, x []any) error {
	if s.Type != "array" || len(x) < s.MinItems || s.MaxItems != nil && len(x) > *s.MaxItems {
		return fmt.Errorf("%s: an array of %d is no such %s", at, len(x), s.Type)
	}
	for i, v := range x {
		if err := d.value(fmt.Sprintf("%s[%d]", at, i), s.Items, v); err != nil {
			return err
		}
	}
	return nil
}

func stringOf(at string, s *schema, x string) error {
	if s.Type != "string" || len(x) < s.MinLength || s.MaxLength != nil && len(x) > *s.MaxLength {
		return fmt.Errorf("%s: a string of %d is no such %s", at, len(x), s.Type)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, x) {
		return fmt.Errorf("%s: %q is not in %v", at, x, s.Enum)
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(x) {
		return fmt.Errorf("%s: %q does not match %s", at, x, s.Pattern)
	}
	return nil
}
