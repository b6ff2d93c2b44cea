package attrcert

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Attribute types (RFC 5755, section 4.4).
var (
	oidGroup     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 10, 4}
	oidRole      = asn1.ObjectIdentifier{2, 5, 4, 72}
	oidClearance = asn1.ObjectIdentifier{2, 5, 4, 55}
)

// passedOver are types that are well known and say nothing that we use: authentication information, access identity,
// charging identity, encrypted attributes.
var passedOver = []asn1.ObjectIdentifier{
	{1, 3, 6, 1, 5, 5, 7, 10, 1}, {1, 3, 6, 1, 5, 5, 7, 10, 2}, {1, 3, 6, 1, 5, 5, 7, 10, 3}, {1, 3, 6, 1, 5, 5, 7, 10, 6},
}

// An attributeReader gathers what attributes say. Words that another authority than the issuer answers for are ignored.
type attributeReader struct {
	content
	issuer []byte
	values int
}

func readAttributes(in cryptobyte.String, issuer []byte) (content, error) {
	r := attributeReader{issuer: issuer}
	var seen []string
	for !in.Empty() {
		var a, set cryptobyte.String
		if !in.ReadASN1(&a, der.SEQUENCE) {
			return content{}, malformed("attribute")
		}
		oid, err := readOID(&a)
		if err != nil {
			return content{}, err
		}
		if !a.ReadASN1(&set, der.SET) || !a.Empty() || set.Empty() || !sorted(set) {
			return content{}, fmt.Errorf("attribute %v: malformed values", oid)
		}
		if slices.Contains(seen, oid.String()) || len(seen) == maxAttributes {
			return content{}, fmt.Errorf("attribute %v stands twice, or after %d others", oid, maxAttributes)
		}
		seen = append(seen, oid.String())
		if err := r.attribute(oid, set); err != nil {
			return content{}, fmt.Errorf("attribute %v: %w", oid, err)
		}
	}
	if len(seen) == 0 {
		return content{}, errors.New("has no attributes")
	}
	return r.content, nil
}

func (r *attributeReader) attribute(oid asn1.ObjectIdentifier, set cryptobyte.String) error {
	for _, o := range passedOver {
		if o.Equal(oid) {
			return nil
		}
	}
	read := func(v cryptobyte.String) error { return r.other(oid, v) }
	switch {
	case oid.Equal(oidGroup):
		read = r.group
	case oid.Equal(oidRole):
		read = r.role
	case oid.Equal(oidClearance):
		read = r.clearance
	}
	for n := 0; !set.Empty(); n++ {
		var v cryptobyte.String
		var tag der.Tag
		if !set.ReadAnyASN1Element(&v, &tag) {
			return malformed("value")
		}
		if n > 0 && oid.Equal(oidGroup) {
			return errors.New("has several values") // RFC 5755 section 4.4.4: one, of several names
		}
		if err := read(v); err != nil {
			return err
		}
	}
	return nil
}

// count bounds all values together.
func (r *attributeReader) count() error {
	if r.values++; r.values > MaxValues {
		return fmt.Errorf("more than %d values", MaxValues)
	}
	return nil
}

func (r *attributeReader) ignore(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.ignored, text) {
		r.ignored = append(r.ignored, text)
	}
}

// group reads IetfAttrSyntax: names of groups, all of one kind (RFC 5755, section 4.4).
func (r *attributeReader) group(in cryptobyte.String) error {
	var v, authority, names cryptobyte.String
	var foreign bool
	if !in.ReadASN1(&v, der.SEQUENCE) || !v.ReadOptionalASN1(&authority, &foreign, contextual(0)) ||
		!v.ReadASN1(&names, der.SEQUENCE) || !v.Empty() || names.Empty() {
		return malformed("group names")
	}
	foreign = foreign && !r.own(authority)
	var kind der.Tag
	for !names.Empty() {
		var name cryptobyte.String
		var tag der.Tag
		if !names.ReadAnyASN1Element(&name, &tag) || kind != 0 && tag != kind {
			return malformed("group names")
		}
		kind = tag
		text, err := groupName(name, tag)
		if err == nil {
			err = r.count()
		}
		if err != nil {
			return err
		}
		if foreign {
			r.ignore("groups that another authority answers for")
			continue
		}
		r.groups = append(r.groups, text)
	}
	return nil
}

func groupName(in cryptobyte.String, tag der.Tag) (string, error) {
	var body cryptobyte.String
	switch tag {
	case der.UTF8String, der.OCTET_STRING:
		if !in.ReadASN1(&body, tag) {
			return "", malformed("group name")
		}
		return text(body)
	case der.OBJECT_IDENTIFIER:
		oid, err := readOID(&in)
		return oid.String(), err
	}
	return "", malformed("group name")
}

// role reads RoleSyntax (RFC 5755, section 4.4.5): the name is a URI.
func (r *attributeReader) role(in cryptobyte.String) error {
	var v, authority, explicit, uri cryptobyte.String
	var foreign bool
	if !in.ReadASN1(&v, der.SEQUENCE) || !v.ReadOptionalASN1(&authority, &foreign, contextual(0)) ||
		!v.ReadASN1(&explicit, contextual(1)) || !v.Empty() {
		return malformed("role")
	}
	if !explicit.ReadASN1(&uri, context(6)) || !explicit.Empty() {
		return errors.New("name of a role is not a URI")
	}
	name, err := text(uri)
	if err == nil {
		err = r.count()
	}
	if err != nil {
		return err
	}
	if foreign && !r.own(authority) {
		r.ignore("roles that another authority answers for")
		return nil
	}
	r.roles = append(r.roles, name)
	return nil
}

// own reports whether GeneralNames are the issuer's own name.
func (r *attributeReader) own(names cryptobyte.String) bool {
	name, err := oneDirectoryName(names)
	return err == nil && bytes.Equal(name, r.issuer)
}

// clearance reads Clearance (RFC 5755, section 4.4.6).
func (r *attributeReader) clearance(in cryptobyte.String) (err error) {
	var v, set cryptobyte.String
	var some bool
	c := Clearance{Bits: []int{1}} // DEFAULT {unclassified}
	if !in.ReadASN1(&v, der.SEQUENCE) {
		return malformed("clearance")
	}
	if v.PeekASN1Tag(context(0)) {
		return errors.New("clearance is in the form of RFC 3281")
	}
	if c.Policy, err = readOID(&v); err != nil {
		return err
	}
	if v.PeekASN1Tag(der.BIT_STRING) {
		if c.Bits, err = readBits(&v); err != nil {
			return err
		}
	}
	if !v.ReadOptionalASN1(&set, &some, der.SET) || !v.Empty() || some && !sorted(set) {
		return malformed("clearance")
	}
	for !set.Empty() {
		cat, err := readCategory(&set)
		if err == nil {
			err = r.count()
		}
		if err != nil {
			return err
		}
		c.Categories = append(c.Categories, cat)
	}
	r.clearances = append(r.clearances, c)
	return r.count()
}

// readBits reads a class list: named bits, so without trailing zeros, and not what is the default anyway.
func readBits(in *cryptobyte.String) ([]int, error) {
	var bits asn1.BitString
	if !in.ReadASN1BitString(&bits) || bits.BitLength > maxBit+1 || bits.BitLength > 0 && bits.At(bits.BitLength-1) == 0 {
		return nil, malformed("class list")
	}
	var out []int
	for i := range bits.BitLength {
		if bits.At(i) == 1 {
			out = append(out, i)
		}
	}
	if slices.Equal(out, []int{1}) {
		return nil, errors.New("class list states the default")
	}
	return out, nil
}

func readCategory(set *cryptobyte.String) (c Category, err error) {
	var v, oid, explicit, value cryptobyte.String
	var tag der.Tag
	if !set.ReadASN1(&v, der.SEQUENCE) || !v.ReadASN1Element(&oid, context(0)) || !v.ReadASN1(&explicit, contextual(1)) || !v.Empty() ||
		!explicit.ReadAnyASN1Element(&value, &tag) || !explicit.Empty() {
		return c, malformed("security category")
	}
	retagged := cryptobyte.String(append([]byte{byte(der.OBJECT_IDENTIFIER)}, oid[1:]...))
	c.Type, err = readOID(&retagged)
	c.Value = value
	return c, err
}

// other keeps a value if it is a string.
func (r *attributeReader) other(oid asn1.ObjectIdentifier, in cryptobyte.String) error {
	var body cryptobyte.String
	var tag der.Tag
	if !in.ReadAnyASN1(&body, &tag) {
		return malformed("value")
	}
	switch tag {
	case der.UTF8String, der.PrintableString, der.IA5String, der.Tag(18): // 18: NumericString
	default:
		r.ignore("attribute %v, which is no string", oid)
		return nil
	}
	v, err := text(body)
	if err == nil {
		err = r.count()
	}
	if err != nil {
		return err
	}
	if n := len(r.others); n == 0 || !r.others[n-1].Type.Equal(oid) {
		r.others = append(r.others, Attribute{Type: oid})
	}
	last := &r.others[len(r.others)-1]
	last.Values = append(last.Values, v)
	return nil
}

func text(b []byte) (string, error) {
	if len(b) == 0 || len(b) > MaxText || !utf8.Valid(b) {
		return "", fmt.Errorf("text is empty, longer than %d bytes or not UTF-8", MaxText)
	}
	return string(b), nil
}
