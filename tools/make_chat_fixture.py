#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/chat/*.json: what transformers (with jinja2) renders, or that it fails.

Needs transformers and jinja2, which nothing else in the project does; the results are checked in.
Usage: tools/make_chat_fixture.py  (from the project's directory)
"""
import json
import pathlib

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests/data/chat"
TOKENS = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
PLAIN_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city, <b>now</b> & \"soon\"",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city: 東京 or Zürich"},
                "days": {"type": "integer", "default": 1, "minimum": 0},
                "unit": {"type": ["string", "null"], "enum": ["C", "F", None]},
                "where": {
                    "type": "object",
                    "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
                    "required": [],
                },
                "scale": {"type": "number", "examples": [1.0, 0.1, 1e-7, 1e20, 123456789.25, -0.0]},
            },
            "required": ["city"],
        },
    },
}
EMPTY_TOOL = {"type": "function", "function": {"name": "noop", "description": "", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, id="abcdefghi"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def tool(text, **more):
    return {"role": "tool", "content": text, "tool_call_id": "abcdefghi", "name": "get_weather", **more}


CONVERSATIONS = {
    "single": [user("Hello")],
    "system": [system("Be brief."), user("Hello")],
    "turns": [user("Hi"), assistant("Hello!"), user("And?"), assistant("Nothing."), user("Bye")],
    "system_turns": [system("  Be brief.\n"), user(" Hi "), assistant("\n Hello!\n"), user("And?")],
    "late_system": [user("Hi"), system("Now be rude."), user("Well?")],
    "two_systems": [system("One."), system("Two."), user("Hi")],
    "ends_with_assistant": [user("Hi"), assistant("The answer is")],
    "two_users": [user("Hi"), user("again")],
    "starts_with_assistant": [assistant("Welcome"), user("Hi")],
    "empty_texts": [system(""), user(""), assistant(""), user("")],
    "no_messages": [],
    "unicode": [system("Ωμέγα"), user("Grüße, 世界 🌍 e\u0301\u200d\u00a0"), assistant("日本語\u2028line"), user("ß İ ǆ")],
    "quotes": [user("She said \"it's\" <b>&amp;</b>\\n \\ {{ x }} {% if %}\t|\n\n<|im_end|>"), assistant("'a' \"b\""), user("</tool_response><tool_response>")],
    "newlines": [user("\n\na\r\nb\n\n"), assistant("  c\n"), user("\n")],
    "call_dict": [user("Weather?"), assistant("", tool_calls=[call("get_weather", {"city": "Bern", "days": 2, "x": [1.5, None, True, {"y": "ü"}]})]), tool('{"t": 21.5}'), assistant("21.5 degrees."), user("Thanks")],
    "call_string": [user("Weather?"), assistant("Let me see.", tool_calls=[call("get_weather", "{\"city\": \"Bern\"}")]), tool("sunny")],
    "call_none": [user("Weather?"), assistant(None, tool_calls=[call("get_weather", "{}")]), tool("sunny"), assistant("Sunny.")],
    "two_calls": [user("Both?"), assistant("", tool_calls=[call("get_weather", {"city": "A"}), call("noop", {})]), tool("one"), tool("two"), assistant("Done."), user("More")],
    "flat_call": [user("x"), assistant("y", tool_calls=[{"name": "noop", "arguments": {"a": 1}}]), tool("z")],
    "tool_content_dict": [user("x"), assistant("", tool_calls=[call("noop", {})]), {"role": "tool", "content": {"content": "inner", "n": 1}, "tool_call_id": "abcdefghi"}],
    "reasoning": [user("1+1?"), assistant("2", reasoning_content="One and one."), user("2+2?"), assistant("4", reasoning_content="\nTwo and two.\n")],
    "thinking_key": [user("1+1?"), assistant("2", thinking="Old name."), user("Go on"), assistant("3", reasoning="Other name.", reasoning_content=None)],
    "think_in_content": [user("1+1?"), assistant("<think>\nOne and one.\n</think>\n\n2"), user("2+2?"), assistant("<think>a</think>b</think>\n4")],
    "think_unfinished": [user("x"), assistant("<think>\nnever"), user("y")],
    "tool_response_user": [user("q"), assistant("", tool_calls=[call("noop", {})]), user("<tool_response>\nr\n</tool_response>")],
    "parts": [user([{"type": "text", "text": " See "}, {"type": "image"}, {"type": "text", "text": "this"}]), assistant("ok")],
    "parts_bad": [user([{"type": "audio"}])],
    "system_parts": [system([{"type": "text", "text": "S"}]), user("x")],
    "image_in_system": [system([{"type": "image"}]), user("x")],
    "controls": [user("a"), {"role": "skip", "content": "b"}, assistant("c"), {"role": "stop", "content": "d"}, user("e")],
    "unknown_role": [{"role": "narrator", "content": "x"}, user("y")],
    "no_content": [user("x"), {"role": "assistant"}],
    "number_content": [user(3), assistant(2.5)],
    "extra_keys": [{"role": "user", "content": "x", "items": [1], "name": "Ann", "get": 1}, assistant("y", prefix=True)],
    "long": [m for i in range(12) for m in (user(f"question {i}"), assistant(f"answer {i}" * (i % 3)))] + [user("last")],
}
SETTINGS = [
    (None, {}, True),
    (None, {}, False),
    ([WEATHER], {}, True),
    ([WEATHER, EMPTY_TOOL], {"enable_thinking": False, "tools_in_user_message": False}, True),
    ([], {"enable_thinking": True, "add_vision_id": True}, False),
    (None, {"enable_thinking": False, "builtin_tools": ["get_weather", "code_interpreter"], "bos_token": "<B>", "date_string": "1 Jan 2025"}, True),
]


def outcome(render):
    try:
        return {"expected": render()}
    except jinja2.TemplateSyntaxError as e:
        return {"error": "syntax", "message": str(e)}
    except SyntaxError as e:
        return {"error": "syntax", "message": str(e)}
    except jinja2.TemplateError as e:
        # Exactly this type: raised by raise_exception, whose message is passed on.
        return {"error": "raised" if type(e) is jinja2.TemplateError else "runtime", "message": str(e)}
    except Exception as e:  # whatever Python makes of it
        return {"error": "runtime", "message": f"{type(e).__name__}: {e}"}


def write_conversations():
    cases = []
    for path in sorted((FOLDER / "templates").glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, messages in CONVERSATIONS.items():
            for i, (tools, variables, prompt) in enumerate(SETTINGS):
                def render():
                    given = json.loads(json.dumps({"m": messages, "t": tools, "v": variables}))
                    rendered, _ = render_jinja_template(
                        conversations=[given["m"]], tools=given["t"], chat_template=template,
                        add_generation_prompt=prompt, **{**PLAIN_TOKENS, **given["v"]})
                    return rendered[0]
                cases.append({"template": path.name, "conversation": name, "setting": i, **outcome(render)})
    fixture = {
        "config": TOKENS,
        "conversations": CONVERSATIONS,
        "settings": [{"tools": t, "variables": v, "add_generation_prompt": p} for t, v, p in SETTINGS],
        "cases": cases,
    }
    save("conversations.json", fixture)
    return cases


VARIABLES = {
    "a": 1, "b": 2.5, "s": "Hello World", "u": "Grüße 世界", "n": None, "yes": True, "no": False, "empty": "",
    "xs": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "d": {"x": 1, "y": {"z": [10, 20, 30]}, "items": "shadow"},
    "users": [{"name": "Bob", "age": 30, "tags": ["p"]}, {"name": "alice", "age": 25, "tags": []}, {"name": "Carl", "age": 30}],
    "nested": [[1, [2, 3]], {"k": ["v", None, True, 1.0]}], "text": "line one\n\n  line two\r\nline three\n",
}

SNIPPETS = r'''
{{ 1 }}{{ -1 }}{{ 1.0 }}{{ 'a' }}{{ none }}{{ None }}{{ true }}{{ False }}
{{ 007 }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5_0 }}
{{ 1e3 }} {{ 1.5e-7 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789012345680.0 }} {{ 0.1 }} {{ 1e100 }} {{ 5e-324 }} {{ 0.0001 }} {{ 0.00001 }}
{{ 1/3 }} {{ 2/1 }} {{ 7//2 }} {{ -7//2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 % 2 }} {{ -7.5 // 2 }}
{{ 2**10 }} {{ 2**-1 }} {{ 2**0.5 }} {{ -2**2 }} {{ 2**3**2 }} {{ (-2)**3 }}
{{ 0.1 + 0.2 }} {{ 1 + 1.0 }} {{ true + 1 }} {{ 3 * true }} {{ 10 - 2.5 }}
{{ 'a' + 'b' * 3 }} {{ 3 * 'ab' }} {{ [1] + [2] }} {{ (1,) + (2,3) }} {{ [0] * 3 }} {{ 'x' * -1 }}|
{{ 1 ~ 2 ~ none ~ undefined_thing ~ [1, 'a'] }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ 1 != 2 }} {{ true == 1 }}
{{ 'a' in 'abc' }} {{ 'z' not in 'abc' }} {{ 1 in [1,2] }} {{ 'x' in d }} {{ 1 in (2,) }} {{ '' in '' }} {{ 2 in range(5) }}
{{ not true }} {{ not 0 }} {{ 1 and 0 }} {{ 0 or 'x' }} {{ none or [] }} {{ 1 and 'y' }} {{ not '' and 2 }}
{{ 'yes' if a else 'no' }} {{ 'yes' if n else 'no' }} [{{ 'x' if n }}] {{ 1 if no else 2 if no else 3 }}
{{ ('x' if n) is defined }} {{ (n or s) if a == 1 }}
{{ [1, 'a', none, true, 1.5, [2], {'k': 'v'}, (1,), ()] }}
{{ {'a': 1, 'b': [1, 2], 3: 'x', none: none, 1.5: 0} }} {{ {} }} {{ [] }} {{ () }}
{{ ['it\'s', "say \"hi\"", 'both \' "', 'back\\slash', 'tab\t nl\n cr\r', 'bell\x07', 'é', '\u200b', '\U0001F600', '\x7f', '\xa0'] }}
{{ "a" "b" 'c' }}
{{ s[0] }} {{ s[-1] }} {{ s[1:3] }} {{ s[:5] }} {{ s[6:] }} {{ s[::-1] }} {{ s[::2] }} {{ s[-3:] }} {{ s[5:2] }}| {{ s[100:] }}| {{ s[4:0:-2] }}
{{ u[0] }} {{ u[3] }} {{ u[-1] }} {{ u[2:5] }} {{ u[::-1] }} {{ u|length }}
{{ xs[0] }} {{ xs[-1] }} {{ xs[::-1] }} {{ xs[1:] }} {{ xs[:-1] }} {{ xs[5] }}| {{ xs[-5:2] }} {{ xs[2:0:-1] }} {{ (1,2,3)[1:] }} {{ xs[true] }}
{{ d.x }} {{ d['x'] }} {{ d.y.z[1] }} {{ d['y']['z'][-1] }} {{ d.missing }}| {{ d['items'] }} {{ xs.0 }} {{ xs.1 }}
{{ d.items() }} {{ d.keys() }} {{ d.values() }} {{ d.get('x') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.items()|list }}
{{ missing }}|{{ missing|length }}|{{ missing|default('d') }}|{{ missing is defined }}|{{ missing == other }}|{{ missing|list }}|{{ missing|upper }}|{{ missing|join }}
{{ missing.x }}
{{ missing['x'] }}
{{ missing + 1 }}
{{ missing() }}
{{ missing > 1 }}
{{ -missing }}
{{ missing[1:] }}
{{ d.missing.x }}
{{ n.x }}|{{ n['x'] }}|{{ n[0] }}|{{ a.x }}|{{ a[0] }}
{{ n + 'x' }}
{{ 'x' + 1 }}
{{ 'x' + n }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ [1] + 1 }}
{{ 1 < 'a' }}
{{ {} < {} }}
{{ n < 1 }}
{{ {[1]: 2} }}
{{ 'a' in 5 }}
{{ 5 in 'a' }}
{{ n in [n] }}
{{ [] in {} }}
{{ d[1:2] }}
{{ xs['a'] }}|{{ xs[1.0] }}|{{ s['nope'] }}|{{ d[[1]] }}|
{{ xs[::0] }}
{{ xs['a':] }}
{{ xs.append(1) }}
{{ xs.append }}|{{ d.update }}|{{ d.pop }}|{{ s.__class__ }}|{{ xs.__len__ }}
{{ s.__class__.x }}
{{ d.pop('x') }}
{{ s.nope() }}
{{ nope() }}
{{ s() }}
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ 'hELLO wORLD'.capitalize() }} {{ 'straße ÉCOLE'.upper() }} {{ 'ÀB'.lower() }} {{ "it's a-b_c 3d".title() }} {{ 'aBc'.swapcase() }}
[{{ '  x y '.strip() }}] [{{ '  x '.lstrip() }}] [{{ ' x  '.rstrip() }}] [{{ 'xxaxx'.strip('x') }}] [{{ 'abcba'.strip('ab') }}] [{{ '\u3000x\xa0'.strip() }}] [{{ 'éaé'.strip('é') }}]
{{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b c '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a  b c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'abc'.split('') if no else 1 }} {{ 'aXbXc'.split(sep='X', maxsplit=1) }} {{ 'a b c'.split(' ', 0) }} {{ ' a b '.rsplit() }}
{{ 'abc'.split('') }}
{{ text.splitlines() }} {{ text.splitlines(true) }} {{ 'a\x0bb\x1cc\u2028d'.splitlines() }} {{ ''.splitlines() }}
{{ s.startswith('Hell') }} {{ s.endswith(('x', 'World')) }} {{ s.startswith(()) }} {{ s.startswith('World', 6) }} {{ s.endswith('Hello', 0, 5) }} {{ ''.startswith('') }} {{ s.startswith('', 20) }}
{{ s.replace('o', '0') }} {{ s.replace('l', 'L', 2) }} {{ 'abc'.replace('', '-') }} {{ ''.replace('', 'x') }} {{ 'aaa'.replace('aa', 'b') }} {{ 'é'.replace('', '.') }} {{ 'abc'.replace('', '-', 2) }}
{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('zz') }} {{ s.count('l') }} {{ s.index('W') }} {{ u.find('世') }} {{ s.find('o', 5) }} {{ s.find('o', -4, -1) }} {{ 'aaaa'.count('aa') }} {{ 'abc'.count('') }} {{ s.rfind('') }} {{ s.rindex('l', 0, 5) }}
{{ s.index('zz') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join([]) }} {{ '-'.join('abc') }} {{ ','.join({'a': 1, 'b': 2}) }}
{{ ', '.join([1, 2]) }}
{{ '{} and {}'.format(1, 'x') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}-{y!r}'.format(x=1, y='q') }} {{ '{{}}'.format() }}
{{ '{} {}'.format(1) }}
{{ '%s is %d years, %.2f%% %05d|%-5s|%5s|%x %r %+d %e %g' % ('Bob', 30, 99.5, 42, 'a', 'b', 255, 'q', 3, 1234.5, 0.0001) }} {{ '%s' % 'x' }} {{ '%s' % [1] }} {{ '%(a)s-%(b)d' % {'a': 1, 'b': 2} }} {{ '%c%c' % ('x', 65) }} {{ '%.3s|' % 'abcdef' }}
{{ '%s %s' % ('a',) }}
{{ '%s' % ('a', 'b') }}
{{ '%d' % 'x' }}
{{ "%s, %s!"|format('Hi', 'you') }} {{ "%(x)s"|format(x=5) }}
{{ 'abc'.isdigit() }} {{ '123'.isdigit() }} {{ ''.isdigit() }} {{ 'abc'.isalpha() }} {{ 'é'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \n'.isspace() }} {{ 'ABC'.isupper() }} {{ 'abC'.islower() }} {{ '1'.isupper() }}
{{ 'ab'.ljust(4) }}| {{ 'ab'.rjust(4, '*') }} {{ 'ab'.center(5, '.') }} {{ 'abc'.center(6, '.') }} {{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'x'.partition('=') }} {{ 'x'.rpartition('=') }} {{ 'foobar'.removeprefix('foo') }} {{ 'foobar'.removesuffix('bar') }} {{ 'x'.center(4) }}|
{{ xs.index(1) }} {{ xs.count(3) }} {{ (1, 2).index(2) }} {{ xs.copy() }} {{ d.copy() == d }}
{{ xs.index(99) }}
{{ xs|sort }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ xs|sort(reverse=true) }} {{ users|sort(attribute='age')|map(attribute='name')|list }} {{ users|sort(attribute='age,name')|map(attribute='name')|join(',') }} {{ 'bca'|sort }} {{ d|sort }} {{ users|sort(true, attribute='name')|map(attribute='name')|join }}
{{ [1, 'a']|sort }}
{{ words|unique|list }} {{ [1, 1.0, true, 2]|unique|list }} {{ words|unique(case_sensitive=true)|join(' ') }} {{ users|unique(attribute='age')|map(attribute='name')|join }}
{{ xs|min }} {{ xs|max }} {{ []|min }}| {{ words|min }} {{ words|max }} {{ users|max(attribute='age') }} {{ 'hello'|max }}
{{ xs|sum }} {{ users|sum(attribute='age') }} {{ [0.1]*3|sum if no else [0.1, 0.2]|sum }} {{ []|sum }} {{ xs|sum(start=10) }} {{ [[1],[2]]|sum(start=[]) }}
{{ ['a']|sum }}
{{ xs|first }} {{ xs|last }} {{ []|first }}| {{ []|last }}| {{ 'abc'|first }} {{ 'abc'|last }} {{ d|first }} {{ d|last }} {{ (xs|first) + 1 }}
{{ xs|join }} {{ xs|join(', ') }} {{ users|join('; ', attribute='name') }} {{ 'abc'|join('-') }} {{ [1, none, true]|join('|') }} {{ d|join(',') }}
{{ xs|length }} {{ s|count }} {{ d|length }} {{ ''|length }} {{ (1,2)|length }} {{ range(7)|length }} {{ d.items()|length }}
{{ 5|length }}
{{ n|length }}
{{ xs|map('string')|list }} {{ words|map('upper')|join(' ') }} {{ users[:2]|map(attribute='tags.0')|list }} {{ users|map(attribute='zip', default='?')|list }} {{ words|map('replace', 'p', 'q')|list }} {{ xs|map('default', 1)|list }} {{ nested|map('first')|list }} {{ ['a ', ' b']|map('trim')|list }}
{{ xs|map('nope')|list }}
{{ users|map(attribute='tags.0')|list }}
{{ xs|map|list }}
{{ xs|select('odd')|list }} {{ xs|reject('odd')|list }} {{ [0, 1, '', 'a']|select|list }} {{ xs|select('>', 1)|list }} {{ xs|select('divisibleby', 3)|list }} {{ [1, none, 2]|reject('none')|list }} {{ xs|select('in', [1, 2])|list }} {{ [1,'a']|select('string')|list }}
{{ users|selectattr('age', 'equalto', 30)|map(attribute='name')|list }} {{ users|selectattr('tags')|list|length }} {{ users|rejectattr('tags', 'defined')|map(attribute='name')|list }} {{ users|selectattr('age', 'gt', 26)|list|length }} {{ users|rejectattr('age', 'eq', 30)|map(attribute='name')|first }} {{ users|selectattr('name', 'in', ['Bob'])|list }} {{ users|selectattr('age', '==', 25)|map(attribute='name')|join }}
{{ xs|select('nope')|list }}
{{ xs|nope }}
{{ xs is nope }}
{% if no %}{{ xs|nope }}{% endif %}fine
{% if yes %}{{ xs|nope }}{% endif %}
{{ 'fine' if yes else xs|nope }} {{ xs|nope if no else 'ok' }}
{% if no %}{% for x in xs %}{{ x|nope }}{% endfor %}{% endif %}
{% if no %}{{ 1 is nope }}{% endif %}fine
{% if xs is nope %}{% endif %}
{{ xs|reverse|list }} {{ 'abc'|reverse }} {{ xs|list }} {{ 'abc'|list }} {{ d|list }} {{ (1,2)|list }} {{ range(3)|list }} {{ xs|reverse|first }}
{{ d|items|list }} {{ missing|items|list }} {{ {'b': 1, 'A': 2}|dictsort }} {{ {'b': 1, 'a': 2}|dictsort(by='value') }} {{ {'b': 1, 'A': 2}|dictsort(true) }} {{ {'b': 1, 'a': 2}|dictsort(reverse=true) }} {{ {'b': 'x', 'a': 'Y'}|dictsort(false, 'value') }}
{{ xs|items }}
{% for k in xs|items %}{% endfor %}
{{ range(7)|batch(3)|list }} {{ range(4)|batch(3, 'x')|list }}
{{ s|upper }} {{ s|lower }} {{ 'foo bar-baz (qux) [zed'|title }} {{ 'fOO bar'|capitalize }} {{ 42|upper }} {{ none|upper }} {{ "it's"|title }}
[{{ '  x '|trim }}] [{{ 'xax'|trim('x') }}] [{{ n|trim }}] [{{ 5|trim }}] [{{ missing|trim }}]
{{ s|replace('o', '0') }} {{ s|replace('o', '0', 1) }} {{ 123|replace(2, 'x') }} {{ s|replace('l', '') }}
{{ n|default('x') }} {{ n|default('x', true) }} {{ ''|d('y', true) }} {{ missing|d }}| {{ 0|default(5, boolean=true) }} {{ d.q|default({'k': 1}) }}
{{ '42'|int }} {{ '4.7'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ 3.9|int }} {{ -3.9|int }} {{ '0x1f'|int(base=16) }} {{ n|int }} {{ ' 12 '|int }} {{ true|int }} {{ '1_000'|int }} {{ 'ff'|int(0, 16) }} {{ '1e3'|int }} {{ [1]|int }} {{ 'inf'|int }} {{ '-5'|int }}
{{ missing|int }}
{{ '4.5'|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ 3|float }} {{ '1e3'|float }} {{ 'inf'|float }} {{ 'nan'|float }} {{ n|float }} {{ ' 2 '|float }}
{{ 42.55|round }} {{ 42.55|round(1) }} {{ 42.55|round(1, 'floor') }} {{ 42.51|round(1, 'ceil') }} {{ 42|round }} {{ 2.5|round }} {{ 3.5|round }} {{ 0.125|round(2) }} {{ 1234.5|round(-2) }} {{ -2.5|round|int }} {{ 1e20|round }} {{ 42.55|round(precision=1) }} {{ 2.675|round(2) }} {{ 7|round(0, 'ceil') }} {{ 1250|round(-2) }}
{{ -5|abs }} {{ -5.5|abs }} {{ (-5)|abs }} {{ true|abs }}
{{ 'x'|abs }}
{{ 1.0|string ~ 1|string }} {{ n|string + 'x' }} {{ [1]|string }} {{ s|string }}
{{ '<a href="x">\'&</a>'|e }} {{ '<b>'|escape }} {{ 5|e }}
{{ '<b>'|safe }}
{{ text|indent }}| {{ text|indent(2, true) }}| {{ text|indent(2, true, true) }}| {{ 'a\nb'|indent('> ', first=true) }} {{ 'a\n\nb'|indent(width=1, blank=true) }} {{ ''|indent(2, true) }}| {{ '\n'|indent }}|
{{ 'a b, c-d it\'s'|wordcount }} {{ ''|wordcount }} {{ 'ab'|center(6) }}|
{{ d|tojson }} {{ s|tojson }} {{ 'é"\\\n\t\x07</script>\x7f🌍'|tojson }} {{ [1, 1.0, none, true, 1e20, 0.1, -0.0, 1e-7]|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ (1, (2,))|tojson }} {{ []|tojson }} {{ {}|tojson }}
{{ d|tojson(indent=2) }}
{{ nested|tojson(indent=0) }} {{ {'a': [], 'b': {}}|tojson(indent=4) }} {{ [1,[2]]|tojson(indent='\t') }}
{{ {'b': 1, 'a': [1, 2]}|tojson(sort_keys=true) }} {{ [1, {'a': 2}]|tojson(separators=(',', ':')) }} {{ 'é🌍'|tojson(ensure_ascii=true) }} {{ {'a': 1}|tojson(indent=2, separators=(', ', '=')) }} {{ d|tojson(false, 1) }}
{{ missing|tojson }}
{{ d.items()|tojson }}
{{ xs|map('string')|tojson }}
{{ namespace()|tojson }}
{{ {(1,2): 3}|tojson }}
{{ 'inf'|float|tojson }} {{ 'nan'|float|tojson }} {{ -('inf'|float) }}
{{ a is defined }} {{ missing is undefined }} {{ n is none }} {{ s is string }} {{ a is number }} {{ true is number }} {{ a is integer }} {{ true is integer }} {{ b is float }} {{ d is mapping }} {{ xs is iterable }} {{ s is iterable }} {{ a is iterable }} {{ s is sequence }} {{ d is sequence }} {{ missing is sequence }} {{ missing is iterable }} {{ yes is boolean }} {{ a is boolean }}
{{ yes is true }} {{ 1 is true }} {{ no is false }} {{ n is false }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'ABC' is upper }} {{ 'abc' is lower }} {{ 1 is eq 1 }} {{ 1 is equalto(2) }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 2 is ge 2 }} {{ 1 is in [1] }} {{ 'x' is not none }} {{ a is not defined }} {{ range is callable }} {{ s is callable }} {{ s.upper is callable }} {{ n is sameas none }} {{ xs is sameas xs }} {{ [] is sameas [] }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }}
{{ a is defined and b is defined }} {{ a is defined or x }} {{ not a is defined }} {{ a is not none and s is string }}
{{ range(3) }} {{ range(1, 5)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }} {{ range(10)[2:5]|list }} {{ range(10)[-1] }} {{ range(2, 3) }} {{ range(0, 10, 3) }} {{ range(3) == range(3) }}
{{ range(1000001) }}
{{ range(1, 2, 0) }}
{{ range('a') }}
{{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }} {{ dict({'q': 1}, r=2) }} {{ namespace(a=1).a }} {{ namespace({'k': 'v'}).k }} {{ namespace(a=[1]) }}
{{ namespace(_a=1) }}
{{ list([1]) }}
{{ raise_exception('no: ' ~ s) }}
{% if false %}{{ raise_exception('x') }}{% endif %}ok
{% for x in xs %}{{ x }}{% endfor %}
{% for x in xs %}{{ loop.index }}:{{ loop.index0 }}:{{ loop.revindex }}:{{ loop.revindex0 }}:{{ loop.first }}:{{ loop.last }}:{{ loop.length }}:{{ loop.previtem }}:{{ loop.nextitem }};{% endfor %}
{% for x in [] %}a{% else %}empty{% endfor %} {% for x in xs if x > 5 %}a{% else %}none{% endfor %}
{% for x in xs if x > 1 %}{{ x }}/{{ loop.index }}/{{ loop.length }}/{{ loop.last }} {% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for (k, v) in [(1, 2)] %}{{ k }}{{ v }}{% endfor %} {% for k, (a, b) in [[1, [2, 3]]] %}{{ k }}{{ a }}{{ b }}{% endfor %}
{% for k, v in [1, 2] %}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% for c in 'aé' %}[{{ c }}]{% endfor %} {% for k in d %}{{ k }}{% endfor %} {% for x in missing %}a{% endfor %} {% for x in (1, 2) %}{{ x }}{% endfor %} {% for x in 1, 2 %}{{ x }}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}!
{% for x in [1,2] %}{% for y in [1,2,3] %}{% if y == 2 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}
{% break %}
{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% for i in [1,2] %}{% if i == 1 %}{% set y = 'set' %}{% endif %}[{{ y }}]{% endfor %}
{% set y = 0 %}{% if true %}{% set y = 1 %}{% endif %}{{ y }}
{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }} {{ ns }} {% set ns.q = 'new' %}{{ ns.q }} {{ ns['q'] }} {{ ns.zz }}|
{% set q.x = 1 %}
{% set d.x = 1 %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set (x, y) = xs[:2] %}{{ x }}{{ y }} {% set t = 1, 2 %}{{ t }} {% set ns = namespace() %}{% set ns.a, z = 5, 6 %}{{ ns.a }}{{ z }}
{% set a, b = [1] %}
{% set x %}block {{ a }} text{% endset %}[{{ x }}] {% set y | upper %}abc{% endset %}{{ y }} {% set z | replace('a', 'b') | upper %}a{% endset %}{{ z }}
{% set x = 1 %}{% set b %}{% set x = 2 %}{{ x }}{% endset %}{{ b }}{{ x }}
{% with q = 5, r = a %}{{ q }}{{ r }}{% set q = 6 %}{{ q }}{% endwith %}{{ q }}| {% with %}{% set w = 1 %}{{ w }}{% endwith %}{{ w }}|
{% filter upper %}abc {{ s }}{% endfilter %} {% filter replace('a', 'b') | upper %}aaa{% endfilter %}
{% macro m(a, b=2, c=a) %}<{{ a }},{{ b }},{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=5) }}{{ m(b=1, a=0) }}{{ m() }}
{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{% macro m() %}{{ a }}{{ later }}{% set a = 9 %}{{ a }}{% endmacro %}{% set later = 'L' %}{{ m() }}{{ a }}
{% macro fact(n) %}{{ 1 if n < 2 else n * (fact(n - 1)|int) }}{% endmacro %}{{ fact(10) }}
{% macro outer(x) %}{% macro inner(y) %}{{ x }}{{ y }}{% endmacro %}{{ inner(2) }}{% endmacro %}{{ outer(1) }}
{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}body {{ a }}{% endcall %} {% macro n() %}{{ caller('x', 2) }}{% endmacro %}{% call(p, q) n() %}{{ p }}{{ q }}{% endcall %}
{% macro m() %}x{% endmacro %}{{ m }} {{ m() ~ m() }} {{ m()|upper }} {{ m is callable }}
{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}
{% for x in xs %}{{ loop }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.depth }};{% endfor %}
{% for x in xs %}{% set outer = loop %}{% for y in [1] %}{{ outer.index }}{{ loop.index }}{% endfor %}{% endfor %}
{{ loop }}|{{ loop is defined }}
{% set i = xs|map('string') %}{{ i|join }}{{ i|join }}| {% set j = []|select %}{{ 'true' if j else 'false' }}
{% set i = xs|reverse %}{% for x in i %}{{ x }}{% break %}{% endfor %}|
{% set found = namespace(v=false) %}{% for x in xs if not found.v %}{{ x }}{% if x == 1 %}{% set found.v = true %}{% endif %}{% endfor %}
{% generation %}gen {{ a }}{% set g = 1 %}{% endgeneration %}{{ g }}|
{% raw %}{{ not }} {% parsed %}{% endraw %} {%- raw -%}  x  {%- endraw %}
{# comment #}a{# {{ x }} #}
b
{#- c -#}   x
a   {%- if true -%}   b   {%- endif -%}   c
a
  {{ a }}
  {{- a -}}
  b

{%- set x = 1 -%}
   [{{ x }}]   
{%- if true %} a {% endif -%} b
 {% set q = 1 %} {% set r = 2 %}
x
	{% if a %}tab{% endif %}	
text   {# comment #}   
next
x {# c +#}
y {#+ c #} z
{{ '}}' }} {{ "%}" }} {{ {'a': {'b': 1}} }} {{ {'a': {'b': 1}}['a']['b'] }}
{{ [1, 2,] }} {{ (1,) }} {{ {'a': 1,} }} {{ dict(a=1,) }}
{{ 1, 2 }}
{{ (1) }} {{ () }} {{ ((1, 2), 3) }}
{{ 'a' if 'b' in 'abc' and 1 < 2 else 'c' }} {{ a + b * 2 - 1 }} {{ (a + b) * 2 }} {{ a ~ b + 1 }} {{ '1' + 2 ~ 3 + '4' }}
{{ 1 + 2 ~ 3 + 4 }}
 {{ not a == 1 }} {{ -a + 2 }} {{ 2 - -1 }} {{ +5 }}
{{ s|upper|lower|title }} {{ s.upper().lower()[0:2] }} {{ (s|upper)[0] }} {{ s|replace('H', 'h')|first }} {{ 'a' ~ 'b'|upper }} {{ 'a' + 'b'|upper * 2 }}
{{ d.y.z|length > 2 }} {{ xs|length - 1 }} {{ xs[xs|length - 1] }} {{ xs[a] }} {{ users[0]['name'][0] }} {{ users[-1].name.upper() }} {{ users[0].tags[0] }}
{{ {'a': 1}.a }} {{ [1,2][0] }} {{ 'abc'[1] }} {{ (1,2)[0] }} {{ 'x'.upper() }} {{ {'get': 1}.get }}
{{ [*xs] }}
{{ dict(**d) }} {{ "%s%s"|format(*['a', 'b']) }} {{ dict(**{'k': 1}) }}
{{ xs == [3, 1, 2] }} {{ d == {'x': 1} }} {{ (1,) == [1] }} {{ 'a' == 1 }} {{ n == none }} {{ n != missing }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }}
{% if a == 1 %}one{% elif a == 2 %}two{% else %}other{% endif %} {% if n %}x{% elif b > 2 %}y{% endif %}
{% if xs %}t{% endif %}{% if empty %}x{% else %}f{% endif %}{% if {} %}x{% endif %}{% if 0.0 %}x{% endif %}{% if ' ' %}s{% endif %}
{% if 1, 2 %}tuple{% endif %}
{% print s %} {% if a: %}colon{% endif %}
{% set messages = [1] %}{{ messages }}{% set tools = tools or [] %}{{ tools }}{{ add_generation_prompt }}{{ documents }}
{{ s|upper() }} {{ s|default }} {{ 'a' is string() }}
{{ 9007199254740993 }} {{ 9223372036854775807 }} {{ 9007199254740993 == 9007199254740992.0 }} {{ 1e308 * 10 }}
{{ 'ﬁ'.upper() if no else 'x' }} {{ 'ǆ'|title }} {{ 'ΑΣ'.lower() if no else 'y' }}
{{ nested }} {{ nested[1].k[0] }} {{ nested[0][1][1] }} {{ nested|tojson }}
{{ loop.index }}
{{ a }} {{b}} {{  s  }}{{''}}
{{ 'unterminated }}
{{ a
{% if a %}
{% if a %}x{% endfor %}
{% endif %}
{% else %}
{% nope %}
{% for x xs %}{% endfor %}
{% for x in %}{% endfor %}
{{ }}
{{ a b }}
{{ a + }}
{{ (a }}
{{ a) }}
{{ [a }}
{{ {a} }}
{{ a | }}
{{ a is }}
{{ a. }}
{{ a[ ] }}
{{ f(a=1, 2) }}
{{ f(a=1, a=2) }}
{{ 1 = 2 }}
{{ a ? b }}
{{ @ }}
{% set 1 = 2 %}
{% set true = 2 %}
{% set x %}
{% macro %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(1) %}{% endmacro %}
{% call x %}{% endcall %}
{% for loop in xs %}{{ loop }}{% endfor %}
{# unterminated
{% raw %}x
{% set x = 1 2 %}
{% elif a %}
{% if %}{% endif %}
{{ a is number is string }}
{% continue %}
{{ 'a' 'b' + 'c' }} {{ 'x'"y" }}
{{ a!b }}
{{ "\u12" }}
{{ "\xZZ" }}
{% endraw %}
{%- for m in users %}{{ m['name'] }}{% if not loop.last %}, {% endif %}{% endfor %}
{{ users|map(attribute='name')|map('lower')|sort|join(',') }} {{ users|groupby('age') if no else '' }}
{{ (users|selectattr('age', 'ge', 30)|list)[0].name }} {{ users|map(attribute='age')|sum }} {{ users|map(attribute='age')|max }} {{ users[1:]|map(attribute='name')|first }}
{{ text|trim|length }} {{ text.strip().split('\n')|length }} {{ text }}|
{{ 'a b  c '.split(none, 2) }} {{ '  x  y '.rsplit(none, 5) }} {{ '\n\na'.split('\n') }} {{ 'é é'.split('é') }} {{ 'abab'.rsplit('ab') }} {{ 'a'.split(none, 0) }} {{ ' a '.split(none, 0) }}
{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}{% for i in [1] %}{% set x = 3 %}{{ m() }}{{ x }}{% endfor %}
{% for m in users %}{% set content = m.name %}{% if loop.index0 == 0 %}{% set content = 'first ' ~ content %}{% endif %}{{ content }} {% endfor %}{{ content is defined }}
{% set content = 'outer' %}{% for m in users %}{% if loop.first %}{% set content = m.name %}{% endif %}{{ content }} {% endfor %}{{ content }}
{% for m in [1] %}{% set tools = 5 %}{% for k in [1] %}{{ tools }}{% endfor %}{% endfor %}{{ tools }}
{% set ns = namespace(items=[]) %}{% for x in xs %}{% set ns.items = ns.items + [x * 2] %}{% endfor %}{{ ns.items }} {{ ns['items']|length }}
{% for x in xs if loop is defined %}{{ x }}{% endfor %}
{% for x in xs %}{% if loop.previtem is defined and loop.previtem > x %}down {% elif loop.previtem is defined %}up {% endif %}{% endfor %}
{% for x in xs %}{% if loop.nextitem is defined %}{{ loop.nextitem - x }} {% endif %}{% endfor %}
{% for x in [1,2,3] %}{% if loop.last %}last{% continue %}{% endif %}{{ x }}{% else %}never{% endfor %}
{% for u in users|selectattr('age', 'eq', 30) %}{{ loop.length }}{{ u.name }}{% endfor %} {% for k, v in d|items if k != 'items' %}{{ k }}{{ loop.last }}{% endfor %}
{% for x in [] if x %}a{% endfor %}{% for x in 'ab' if x != 'a' %}{{ loop.first }}{{ loop.revindex }}{% endfor %}
{% set f = s.upper %}{{ f() }} {% set g = d.get %}{{ g('x') }} {% set h = namespace %}{{ h(a=1).a }}
{{ s['upper']() }} {{ d['get']('x') }} {{ xs['index'](2) }} {{ d['keys']()|list }}
{{ users|map(attribute='name')|map('length')|list }} {{ users|map('length')|list }} {{ [[1,2],[3]]|map('sum')|list }} {{ [[2,1],[3]]|map('sort')|map('join')|list }} {{ ['1','2']|map('int')|sum }} {{ [1.26, 2.74]|map('round', 1)|list }}
{{ (1, 2) + (3,) == (1, 2, 3) }} {{ [] == () }} {{ 'abc' > 'abd' }} {{ 'a' <= 'a' }} {{ [1, 2] >= [1] }} {{ (1, 'a') < (2, none) }} {{ 3 != 3.0 }} {{ 'é' > 'z' }}
{{ {} is mapping and {} is iterable and {} is not string }} {{ [] is mapping }} {{ 'x' is mapping }} {{ d.items() is mapping }} {{ d.items() is iterable }} {{ d.items() is sequence }} {{ range(2) is sequence }} {{ (xs|select) is sequence }} {{ (xs|select) is iterable }}
{{ messages is sequence }} {{ tools is none }} {{ documents is none }} {{ add_generation_prompt is false }} {{ bos_token is defined }}
{{ none is iterable }} {{ none is sequence }} {{ none is mapping }} {{ none == false }} {{ none is false }} {{ 0 is false }} {{ '' is none }}
{{ 1 if 1 }}{{ 0 if 0 }}|{{ (1 if 0) is undefined }} {{ (1 if 0)|default('x') }} {{ 'a' ~ (1 if 0) ~ 'b' }}
{{ 1.5|int + 1 }} {{ '3'|int * '4'|int }} {{ 7 / 2|int }} {{ (7 / 2)|int }} {{ 7 // 2.0 }} {{ 1e16|int }} {{ 5 % 2.5 }} {{ -5 % 2.5 }} {{ -0.0 }} {{ 0.0 * -1 }} {{ 1e22 }} {{ 1e21 + 1 }} {{ 123456.789e3 }} {{ 1.0e-5 }} {{ 12345678901234567 * 1.0 }}
{{ "%5.1f|%-8s|%08.3f|% d|%+.2e|%i|%o|%X|%5%|%s" % (3.14159, 'ab', 3.14159, 5, 12345.678, 7, 8, 255, none) }}
{{ '%s' % none }} {{ '%s' % d.x }} {{ '%r' % 'a' }} {{ '%d%%' % 50 }} {{ '%d' % 3.9 }} {{ '%s' % true }} {{ '%.2f' % 2 }} {{ '' % () }} {{ 'x' % {} }}
{{ '%q' % 1 }}
{{ '%' % 1 }}
{{ '%x' % 1.5 }}
{{ '%(a)s' % 1 }}
{{ '%(a)s' % {} }}
{{ 'x' % 1 }}
{{ '{'.format() }}
{{ '}'.format() }}
{{ '{x}'.format() }}
{{ 'abc'[none:2] }} {{ 'abc'[-2:] }} {{ 'abc'[-100:100] }} {{ 'abc'[::-2] }} {{ 'abc'[2::-1] }} {{ 'abc'[:-4:-1] }} {{ xs[-1:-3:-1] }} {{ xs[10:] }} {{ xs[:0] }} {{ ()[:] }} {{ '日本語'[1:] }} {{ '日本語'[::-1] }} {{ range(10)[::-3]|list }} {{ range(10)[8:2:-2] }}
{{ text.split('\n')[0] }} {{ text.replace('\n', '\\n').replace('\r', '') }} {{ text|replace('\n', ' ')|trim|upper|length }} {{ s.split()[-1]|lower }} {{ s.split(' ')[0][::-1] }} {{ 'a/b/c'.rsplit('/', 1)[-1] }} {{ 'k: v: w'.split(': ', 1)[1] }}
{{ {'a': none}.a is none }} {{ {'a': none}.a|default('x') }} {{ {'a': none}.get('a', 'x') }} {{ {'a': 0}.a or 'zero' }} {{ {1: 'one'}[1] }} {{ {1: 'one'}[true] }} {{ {'1': 'one'}[1] is defined }} {{ {(1, 2): 'pair'}[(1, 2)] }} {{ {'a': 1, 'a': 2} }}
{{ xs|sort|first }}{{ xs|sort|last }} {{ words|sort|join(' ') }} {{ words|map('lower')|unique|sort(reverse=true)|list }} {{ [true, false, 2]|sort }} {{ [[2, 'b'], [1, 'z']]|sort }} {{ users|sort(attribute='name')|map(attribute='name')|list }} {{ [3, 1.5, true]|sort }}
{{ d|length }}{{ d|list }}{{ d|string }} {{ d.y|tojson }} {{ d|dictsort|length }} {{ {'b': {'c': 1}}|tojson(indent=1) }}
{{ "a'b"|tojson }} {{ ["it's", 'say "x"']|tojson }} {{ '&<>'|tojson }} {{ '\u2028'|tojson }} {{ '\x1f\b\f'|tojson }} {{ -1|tojson }} {{ 1e400|tojson if no else 1 }} {{ 3.0|tojson }} {{ true|tojson }} {{ none|tojson }} {{ u|tojson }} {{ u|tojson(ensure_ascii=True) }}
{{ xs|tojson|length }} {{ xs|tojson|replace(' ', '') }} {{ 'x'|tojson|tojson }} {{ (xs|tojson)[1:-1] }} {{ d|tojson(indent=2)|indent(4) }} {{ xs|tojson(2) }} {{ xs|tojson(indent=none) }} {{ xs|tojson(indent=-1) }} {{ xs|tojson(separators=[';', '']) }}
{{ nope|tojson if nope is defined else 'none' }} {{ nope|d('x')|upper }} {{ (nope|d({}))['k'] is defined }} {{ nope|first is defined }} {{ nope|trim == '' }} {{ nope|string|length }} {{ nope ~ 'x' }} {{ nope|int(3) if nope else 4 }} {{ nope or 'alt' }} {{ nope == none }} {{ not nope }}
{{ nope in xs }} {{ 'a' in nope }} {{ nope|select|list }} {{ nope|map('upper')|list }} {{ nope|sort }} {{ nope|sum }} {{ nope|unique|list }} {{ nope|reverse|list }} {{ nope|count }}
{{ nope|last }}
{{ nope|abs }}
{{ nope|round }}
{{ nope|float }}
{{ nope in 'abc' }}
{{ nope|dictsort }}
{{ nope|batch(2)|list }} {{ nope|list }} {{ nope|length }} {{ nope|replace('a', 'b') }} {{ nope|e }} {{ nope|title }} {{ nope|wordcount }} {{ nope|min is defined }}
{{ nope|indent }}
{{ n|indent }}
{{ n|list }}
{{ n|join }}
{{ n|first }}
{{ n|map('upper')|list }}
{{ n|select|list }} {{ n|d('x') }} {{ n|string }} {{ n|trim|length }} {{ 5|string|length }} {{ 5|list if no else 'x' }} {{ 5|select|list if no else 'y' }}
{{ 5|select|list }}
{{ 5|first }}
{{ s|sum }}
{{ [1,2]|join(1) }} {{ [[1],[2]]|join(', ') }} {{ [none]|join }} {{ [nope]|join('x') }} {{ (1, 2)|join('-') }} {{ range(3)|join }} {{ d.values()|join(' ') }} {{ 'ab'|list|join('+') }}
{{ a.real is defined if no else 'skip' }} {{ s.length is defined }} {{ xs.length is defined }} {{ xs.size is defined }} {{ s.content is defined }}
{%- set a = 1 -%}{%- set a = a + 1 -%}{{ a }}{% set b = a %}{% set a = 10 %}{{ b }}{{ a }}
{% if a is defined and a %}x{% endif %}{% if not (a and n) %}y{% endif %}{% if a == 1 or n.x.y %}z{% endif %}{% if n is not none and n.x %}w{% endif %}
{% if a > 0 and b > 2 and 'H' in s and not n %}all{% endif %}{% if (a == 2) == (b == 3) %}same{% endif %}{% if a != 1 != 2 %}q{% else %}r{% endif %}{% if a in [1, 2] and a not in [3] %}in{% endif %}
{% macro a1(x) -%} [{{ x }}] {%- endmacro %}{{ a1('q') }}{{ a1(x='r') }}{{ a1() }}|{% macro b1() %}{{ a1(1) }}{{ a1(2) }}{% endmacro %}{{ b1() }}{{ b1()|length }}
{% macro t(items, depth=0) %}{% for i in items %}{% if i is iterable and i is not string %}{{ t(i, depth + 1) }}{% else %}{{ '-' * depth }}{{ i }} {% endif %}{% endfor %}{% endmacro %}{{ t([1, [2, [3, 4]], 5]) }}
{% macro p(m) %}{% if m is mapping %}{{ m.name|upper }}{% elif m is string %}{{ m }}{% else %}{{ raise_exception('bad ' ~ m) }}{% endif %}{% endmacro %}{{ p(users[0]) }}{{ p('s') }}{{ p(5) }}
{% macro k(a, b='x', *args) %}{% endmacro %}
{% macro q(caller) %}{{ caller }}{% endmacro %}{{ q(1) }}
{% call(x) nope() %}{% endcall %}
{% set x = caller %}{{ x is defined }}{{ varargs is defined }}
{% filter trim %}  a  {% endfilter %}|{% filter nope %}x{% endfilter %}
{% with a = 5 %}{{ a }}{% with b = a %}{{ b }}{% endwith %}{% endwith %}{{ a }}{% with a = 1, b = a %}{{ b }}{% endwith %}
{% set x %}{% for i in xs %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}{% endset %}{{ x }}{{ x|length }}{{ x is string }}
{% set x -%}   a   {%- endset %}[{{ x }}]{% set y %}{% endset %}[{{ y }}]{{ y is none }}
{% for x in xs %}{% for y in xs %}{% if y == x %}{% continue %}{% endif %}{% if loop.index > 2 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% if x == 1 %}{% break %}{% endif %}{% endfor %}
{% for x in xs %}{% set y %}{% if x == 1 %}one{% else %}many{% endif %}{% endset %}{{ y }}{% endfor %}
{% for x in xs %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}
{% for x in xs %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% generation %}x
{% endgeneration %}
{{ loop.cycle }}
{% for x in xs %}{{ loop(xs) }}{% endfor %}
{% for x in xs %}{{ loop|length }}{{ loop.nope is defined }}{{ loop['index'] }}{% endfor %}
{{ 'x' is eq('x') }} {{ 'x' is in('xyz') }} {{ 5 is gt(3) }} {{ 5 is divisibleby(5) }} {{ not 5 is odd }} {{ 5 is not odd }} {{ [1] is eq [1] }} {{ {'a': 1} is eq {'a': 1} }} {{ 1 is sameas true }}
{{ true and 'x' or 'y' }} {{ false and 'x' or 'y' }} {{ 'x' if true and false else 'y' if true else 'z' }} {{ (1 or 2) and 3 }} {{ not not 1 }} {{ 1 and nope is defined }}
{{ s.split('o') | map('trim') | select | join('|') }} {{ s | list | select('in', 'aeiou') | join }} {{ s | lower | list | unique | sort | join }} {{ (s | lower | list)[:3] | join('') }}
{{ {'role': 'user', 'content': 'x'}.role }} {{ ({'a': {'b': [1, {'c': 'deep'}]}}).a.b[1].c }} {{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }} {{ [{'a': 1}][0].a + [2][0] }}
{{ 'İ'.lower()|length }} {{ 'ß'.upper() }} {{ 'ŉ'|length }} {{ 'ÿ'.upper() }} {{ 'ﬀ'|length }} {{ 'ά'.upper() }} {{ 'Ω'.lower() }} {{ 'ж'|upper }} {{ 'ı'.upper() }}
{{ u is string }} {{ u|upper }} {{ u|lower }} {{ u|title }} {{ u.find('ü') }} {{ u|replace('世界', 'Welt') }} {{ u.split(' ')[1] }} {{ u|center(12) }}| {{ '%-10s|' % u }} {{ u.encode is defined }}
{{ 'a' * 3 ~ 'b' }} {{ ('a', 'b')|join }} {{ 'a,b' | replace(',', '') }} {{ 10 // 3 * 3 + 10 % 3 }}
'''

LIMITED = [
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ ('a' * 10 ** 6) * 10 ** 6 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(l=[1, 2]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(l=[], m=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
    "{{ [0] * 10 ** 8 }}",
    "{{ [[0] * 10 ** 6] * 10 ** 6 }}",
    "{{ '%1000000d' % 1 }}",
    "{{ 'x'|center(10 ** 9) }}",
    "{{ 'x'.ljust(10 ** 9) }}",
    "{{ ('x' * 1000)|replace('x', 'y' * 1000000) }}",
    "{{ range(100000)|map('string')|join(',' * 10000) }}",
    "{{ 2 ** 64 }}", "{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}", "{{ 9223372036854775807 * 2 }}",
    "{{ 9223372036854775808 }}", "{{ 10 ** 100 }}", "{{ -(-9223372036854775807 - 1) }}", "{{ (-9223372036854775807 - 1) // -1 }}",
    "{{ (-9223372036854775807 - 1) % -1 }}", "{{ (-9223372036854775807 - 1)|abs }}", "{{ 1e300|int }}", "{{ 1e19|round|int }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "{{ " + "[" * 3000 + "]" * 3000 + " }}", "{{ " + "not " * 3000 + "1 }}",
    "{{ " + "-" * 3000 + "1 }}", "{{ 1" + " + 1" * 5000 + " }}", "{{ a" + ".a" * 5000 + " }}", "{{ a" + "|string" * 5000 + " }}",
    "{% if a %}" * 3000 + "{% endif %}" * 3000, "{{ " + "1 if 1 else " * 3000 + "1 }}", "{{ 1" + " if 1" * 3000 + " }}",
    "{% set " + "(" * 3000 + "a" + ")" * 3000 + " = 1 %}", "{{ a" + "[1" * 3000 + "]" * 3000 + " }}", "{{ f" + "(f" * 3000 + ")" * 3000 + " }}",
    "{% for i in range(100000) %}{% set x = range(100000)|list %}{% endfor %}",
    "{{ range(100000)|sort(reverse=true)|unique|list|length }}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% if x in x ~ 'b' %}{% endif %}{% endfor %}",
    "{% set ns = namespace(t=(1,)) %}{% for i in range(90) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}",
    "{% set ns = namespace(t=(1,)) %}{% for i in range(90) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ [ns.t, ns.t]|unique|list }}",
    "{% set ns = namespace(t=(1,)) %}{% for i in range(90) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace(t=(1,), u=(1,)) %}{% for i in range(90) %}{% set ns.t = (ns.t, ns.t) %}{% set ns.u = (ns.u, ns.u) %}{% endfor %}{{ ns.t == ns.u }}",
    "{% set x = 'a' * 1000000 %}{{ x.rfind('a' * 500000 ~ 'b') }}",
    "{% set x = 'a' * 1000000 %}{{ x.rsplit('a' * 500000 ~ 'b') }}",
    "{% set x = 'a' * 1000000 %}{{ x.strip('b' * 1000000 ~ 'a') }}",
    "{% set x = 'a' * 1000000 %}{% set d = {x ~ 'b': 1} %}{% for i in range(100000) %}{{ d[x ~ 'c'] }}{% endfor %}",
    "{% set x = 'a' * 1000000 %}{% set l = [x ~ 'b'] * 10000 %}{{ l|sort|unique|list }}{{ x ~ 'c' in l }}",
    "{{ ('\\n' * 1000000 ~ 'x')|indent(10000, true, true) }}",
    "{{ ('%99999s' * 100000)|format(*([1] * 100000)) }}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% if x.find('b') %}{% endif %}{{ x.count('a') }}{% endfor %}",
]


# Snippets of more than one line.
JOINED = [
    "{% raw %}a\n  {% endraw %}\nb",
    "{# comment #}a{# {{ x }} #}\nb",
    "  {% if true %}\n    yes\n  {% endif %}\nend\n",
    "  {%+ if true %}\n    yes\n  {%+ endif %}\nend\n\n",
    "a\n  {{ a }}\n  {{- a -}}\n  b\n",
    "{% if true +%}\nx\n{% endif +%}\ny",
    "{% for x in xs -%}\n  {{ x }}\n{%- endfor %}\n\n{%- set x = 1 -%}\n   [{{ x }}]   \n{%- if true %} a {% endif -%} b",
    " {% set q = 1 %} {% set r = 2 %}\nx\n\t{% if a %}tab{% endif %}\t\ntext   {# comment #}   \nnext\n",
    "x {# c +#}\ny {#+ c #} z\n  {#- d -#}\n\n w",
    "{{\n   a\n   +\n   1\n}}\n",
    "{% set s2 = \"multi\nline\" %}{{ s2 }}",
    "{{ \"a\\\nb\" }}",
    "{{ '\\x41\\u00e9\\101\\\njoined \\q' }}",
    "a\r\nb\rc\n\n", "\n", "", " ", "\n\n{{ a }}\n\n", "{{ a }}\r\n", "{% if a %}\r\nx{% endif %}\r\ny",
    "{%- if a -%}\n\n\n x \n\n{%- endif -%}\n", "  {{ a }}  \n  {% if a %}  \n  {% endif %}  \n",
    "a {%- raw %} b {% endraw -%} c", "a {%+ raw %} b {% endraw +%}\n c", "  {% raw -%}  b  {%- endraw %}\n c",
    "{#-#}x{#+#}y{##}z", "{{'x'}}\n{%if a%}y{%endif%}\nz", "{{-a-}}", "{{ a -}}\n\n{{- a }}", "x{{ a }}\n", "x{% set y = 1 %}\n\n",
    "\u3000{%- if a %}\u2003x\u00a0{%- endif %}", "{% for x in xs %}\n{{ x }}\n{% endfor %}\nend", "{% for x in xs %}{{ x }}\n{% endfor %}",
    "{{ '\n' }}|{{ 'a\r\nb' }}", "{{ a }}{# x #}\n{# y #}\n{{ a }}", "{% macro m() %}\n  x\n{% endmacro %}\n{{ m() }}\n",
    "line {{ 1 }}\n{{ 2 }}\n{{ nope.x }}\n",
]


def write_snippets():
    cases = []
    for snippet in SNIPPETS.strip("\n").split("\n") + JOINED:
        def render():
            template = _compile_jinja_template(snippet)
            given = json.loads(json.dumps(VARIABLES))
            return template.render(messages=[], tools=None, documents=None, add_generation_prompt=False, **given)
        result = outcome(render)
        # An address is printed: no two runs agree.
        if " at 0x" in result.get("expected", ""):
            continue
        cases.append({"template": snippet, **result})
    save("snippets.json", {"variables": VARIABLES, "cases": cases, "limited": LIMITED})
    return cases


def save(name, value):
    with open(FOLDER / name, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")


if __name__ == "__main__":
    for cases in write_conversations(), write_snippets():
        print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")
