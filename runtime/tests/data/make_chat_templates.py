"""Writes chat-templates.json: what Jinja2 makes of each template, set up as transformers' apply_chat_template does.

Run by hand, with Jinja2 3.1.6: python3 make_chat_templates.py. Each case is a template, the name of its variables and
what is printed; `null` stands for an error. The templates of models are written for this test from the constructs that
such models' templates use.
"""

import json
import os

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes


class Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the model said; here only its text counts."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <today> & \"tomorrow\", in °C",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where"},
                "days": {"type": "integer", "enum": [1, 2, 3]},
            },
            "required": ["place"],
        },
    },
}

CALL = {"type": "function", "id": "abc123456", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 2}}}

CONTEXT = {
    "add_generation_prompt": True,
    "tools": None,
    "documents": None,
    "messages": [
        {"role": "system", "content": "  Be brief.  "},
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
        {"role": "user", "content": "It's \"me\"\n\tÄß 🦙"},
    ],
}

WITH_TOOLS = {
    "tools": [TOOL],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "name": "get_weather", "tool_call_id": "abc123456", "content": "{\"temp\": 21.5}"},
        {"role": "assistant", "content": "Warm."},
        {"role": "user", "content": [{"type": "text", "text": "Thanks"}, {"type": "image"}]},
    ],
}

DATA = {
    "text": "Hello, wörld! Hello.",
    "empty": "",
    "many": "a,b,,c",
    "spaces": "  one  two\tthree \n",
    "lines": "one\ntwo\r\nthree\rfour\x0bfive\n",
    "d": {"z": 1, "a": [1, 2.5, None, True], "m": {"x": "y"}},
    "l": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple"],
    "people": [
        {"name": "Ann", "age": 30, "city": {"n": "Rome"}},
        {"name": "bob", "age": 25, "city": {"n": "Oslo"}},
        {"name": "Cid", "age": 30},
    ],
    "n": None,
    "i": 7,
    "f": 2.5,
    "yes": True,
    "no": False,
}

CHATML = """{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}
{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if loop.index0 == 0 and system_message != false %}
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}
{% set content = message['content'] %}
{% endif %}
{% if message['role'] == 'user' %}
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{% elif message['role'] == 'assistant' %}
{{ ' '  + content.strip() + ' ' + eos_token }}
{% endif %}
{% endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {%- if message['content'] is string %}
            {{- message['content'] | trim }}
        {%- else %}
            {%- for content in message['content'] %}
                {%- if content['type'] == 'image' %}{{- '<|image|>' }}
                {%- elif content['type'] == 'text' %}{{- content['text'] }}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("only single tool-calls") }}{%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" }}{{- message["content"] }}{{- "[/INST]" }}
        {%- else %}
            {{- "[INST] " }}{{- message["content"] }}{{- "[/INST]" }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}{{ ns.index }}
"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first_user_prefix = messages[0]['content'] + '\\n\\n' %}{% set loop_messages = messages[1:] %}{% else %}{% set first_user_prefix = "" %}{% set loop_messages = messages %}{% endif %}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\\n'}}{%- endif -%}"""

PHI = """{% for message in messages %}{% if message['role'] in ['system', 'user', 'assistant'] and message['content'] %}{{'<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index or KEEP is defined %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content'] | string}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}{{'<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] | tojson + '\\n' + '```' + '<｜tool▁call▁end｜>'}}{%- set ns.is_first = true -%}{%- endif %}{%- endfor %}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- if message['role'] == 'tool' %}{{'<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}"""

COMMAND = """{%- macro document_turn(documents) -%}
<results>
{% for doc in documents %}
Document: {{ loop.index0 }}
{% for key, value in doc.items() %}
{{ key | title }}: {{ value | string | trim }}
{% endfor %}

{% endfor %}
</results>
{%- endmacro -%}
{%- macro type_of(spec) -%}
{%- set map = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} -%}
{%- if spec.type in map -%}{{ map[spec.type] }}{%- elif spec.type == "object" -%}Dict[{% for k, v in spec.properties.items() %}{{ k }}: {{ type_of(v) }}{{ ", " if not loop.last }}{% endfor %}]{%- else -%}Any{%- endif -%}
{%- endmacro -%}
{{ bos_token }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>
{%- if tools %}{% for tool in tools | map(attribute='function') | sort(attribute='name') %}
```python
def {{ tool.name }}({% for name, spec in tool.parameters.properties.items() %}{{ name }}: {{ type_of(spec) }}{% if name not in tool.parameters.required %} = None{% endif %}{{ ", " if not loop.last else "" }}{% endfor %}):
    \"\"\"{{ tool.description | indent(4) }}\"\"\"
```
{%- endfor %}{% endif %}
{{ type_of(tools[0].function.parameters) if tools }}
{%- if documents %}{{ document_turn(documents) }}{% endif %}<|END_OF_TURN_TOKEN|>"""

HERMES = """{%- macro json_to_python_type(json_spec) %}
{%- set basic_type_map = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if basic_type_map[json_spec.type] is defined %}
{{- basic_type_map[json_spec.type] }}
{%- elif json_spec.type == "array" %}
{{- "list[" + json_to_python_type(json_spec|items) + "]"}}
{%- elif json_spec.type is iterable and json_spec.type is not string %}
{{- "Union[" }}{%- for t in json_spec.type %}{{- json_to_python_type({"type": t}) }}{%- if not loop.last %}{{- "," }}{%- endif %}{%- endfor %}{{- "]" }}
{%- else %}{{- "Any" }}{%- endif %}
{%- endmacro %}
{{- bos_token }}<tools>
{%- for tool in tools or [] %}
    {%- if tool.function is defined %}{%- set tool = tool.function %}{%- endif %}
    {{- '{"type": "function", "function": ' }}{{- '{"name": "' + tool.name + '", ' }}{{- '"description": "' + tool.name + '(' }}
    {%- for param_name, param_fields in tool.parameters.properties|items %}
        {{- param_name + ": " + json_to_python_type(param_fields) }}
        {%- if not loop.last %}{{- ", " }}{%- endif %}
    {%- endfor %}
    {{- ")" }}
    {%- for param_name, param_fields in tool.parameters.properties|items %}
        {{- "\\n        " + param_name + "(" + json_to_python_type(param_fields) + ")" + (": " ~ param_fields.description if param_fields.description is defined else "") }}
    {%- endfor %}
{%- endfor %}
</tools>{{ json_to_python_type({"type": ["string", "integer", "null"]}) }}
"""

HARMONY = """{#- macros -#}
{%- macro render_typescript_type(param_spec, required_params, is_nullable=false) -%}
    {%- if param_spec.type == "array" -%}
        {{- "any[]" }}
    {%- elif param_spec.type == "string" -%}
        {%- if param_spec.enum -%}{{- '"' + param_spec.enum|join('" | "') + '"' -}}{%- else -%}{{- "string" }}{%- endif -%}
    {%- elif param_spec.type == "integer" or param_spec.type == "number" -%}
        {{- "number" }}
    {%- elif param_spec.type == "object" -%}
        {{- "{\\n" }}
        {%- for prop_name, prop_spec in param_spec.properties.items() -%}
            {{- prop_name -}}
            {%- if prop_name not in (param_spec.required or []) -%}{{- "?" }}{%- endif -%}
            {{- ": " }}{{ render_typescript_type(prop_spec, param_spec.required or []) }}
            {%- if not loop.last -%}{{-", " }}{%- endif -%}
        {%- endfor -%}
        {{- "}" }}
    {%- endif -%}
    {{- " | null" if is_nullable }}
{%- endmacro -%}
{%- macro render_tool_namespace(namespace_name, tools) -%}
    {{- "namespace " + namespace_name + " {\\n\\n" }}
    {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- "// " + tool.description + "\\n" }}
        {{- "type "+ tool.name + " = (_: " + render_typescript_type(tool.parameters, [], is_nullable=true) + ") => any;\\n\\n" }}
    {%- endfor %}
    {{- "} // namespace " + namespace_name }}
{%- endmacro -%}
{%- set model_identity = "You are a model." if model_identity is not defined else model_identity %}
{{- "<|start|>system<|message|>" + model_identity }}
{%- if tools %}{{- render_tool_namespace("functions", tools) }}{% endif %}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- if "tool_calls" in message -%}
            {{- "<|start|>assistant to=functions." + message.tool_calls[0].function.name + "<|channel|>commentary json<|message|>" }}
            {{- message.tool_calls[0].function.arguments|tojson }}{{- "<|call|>" }}
        {%- elif loop.last and not add_generation_prompt -%}
            {{- "<|return|>" }}
        {%- else -%}
            {% generation %}{{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}{% endgeneration %}
        {%- endif -%}
    {%- elif message.role == 'tool' -%}
        {{- "<|start|>functions." + message.name }}{{- " to=assistant<|channel|>commentary<|message|>" + message.content|tojson + "<|end|>" }}
    {%- elif message.role == 'user' and message.content is string -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}"""

SMOL3 = """{%- set reasoning_mode = "/think" if enable_thinking | default(true) else "/no_think" -%}
{%- if messages[0].role == "system" -%}
  {%- set system_message = messages[0].content -%}
  {%- if "/no_think" in system_message -%}{%- set reasoning_mode = "/no_think" -%}{%- endif -%}
  {%- set custom_instructions = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
<|im_start|>system
Reasoning Mode: {{ reasoning_mode }}

{% if custom_instructions %}{{ custom_instructions + "\\n\\n" }}{% else %}{{ "You are helpful.\\n\\n" }}{% endif %}
<|im_end|>
{% for message in messages %}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\\n"  + content + "<|im_end|>\\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {% endgeneration %}
    {%- endif -%}
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

MODELS = {
    "chatml": CHATML, "llama 2": LLAMA2, "llama 3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "phi": PHI,
    "qwen 3": QWEN3, "deepseek": DEEPSEEK, "command r": COMMAND, "hermes": HERMES, "harmony": HARMONY,
    "smollm 3": SMOL3, "zephyr": ZEPHYR,
}

# One template a line, with the variables `DATA`.
EXPRESSIONS = r"""
{{ text | upper }}{{ text | lower }}{{ text | title }}{{ text | capitalize }}
{{ 'foo-bar (baz) [qux] <a> {b}' | title }}{{ "they're bill's" | title }}{{ "they're bill's".title() }}
{{ spaces | trim }}|{{ 'xxaxx' | trim('x') }}|{{ spaces.strip() }}|{{ spaces.lstrip() }}|{{ spaces.rstrip() }}
{{ 'xyabcyx'.strip('xy') }}{{ 'xyabcyx'.lstrip('xy') }}{{ 'xyabcyx'.rstrip('xy') }}
{{ many.split(',') }}{{ many.split(',', 1) }}{{ many.split(',', maxsplit=2) }}{{ many.rsplit(',', 1) }}{{ many.rsplit(',') }}
{{ spaces.split() }}{{ spaces.split(none, 1) }}{{ spaces.rsplit(none, 1) }}{{ ''.split() }}{{ ''.split(',') }}
{{ 'abc'.split('') }}
{{ lines.splitlines() }}{{ lines.splitlines(true) }}{{ ''.splitlines() }}
{{ many.partition(',') }}{{ many.rpartition(',') }}{{ many.partition('x') }}{{ many.rpartition('x') }}
{{ text.removeprefix('Hello') }}{{ text.removesuffix('.') }}{{ text.removeprefix('x') }}{{ text.removesuffix('') }}
{{ text.find('l') }}{{ text.find('l', 4) }}{{ text.find('zzz') }}{{ text.rfind('l') }}{{ text.find('H', -6) }}{{ text.find('') }}
{{ text.index('w') }}{{ text.rindex('l') }}{{ text.count('l') }}{{ text.count('') }}{{ text.count('l', 3, 6) }}
{{ text.index('zzz') }}
{{ 'aaaa'.replace('aa', 'b') }}{{ 'aaaa'.replace('a', 'b', 2) }}{{ 'abc'.replace('', '-') }}{{ 'abc'.replace('', '-', 2) }}
{{ text | replace('l', 'L') }}{{ text | replace('l', 'L', 1) }}{{ 123 | replace(2, 'x') }}
{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ '+7'.zfill(4) }}{{ 'abc'.zfill(2) }}{{ ''.zfill(2) }}
[{{ 'ab'.ljust(5) }}][{{ 'ab'.rjust(5, '.') }}][{{ 'ab'.center(5) }}][{{ 'abc'.center(6, '*') }}][{{ 'abc'.center(2) }}][{{ 'ab' | center(7) }}]
{{ 'ab'.ljust(5, 'xy') }}
{{ 'Straße ΣΑΣ ﬁ'.casefold() }}|{{ 'Straße'.swapcase() }}|{{ 'ΑΣ ΑΣΑ Σ'.lower() }}|{{ 'ß'.capitalize() }}|{{ 'ŉ'.upper() }}|{{ 'ǆx'.title() }}
{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ '½'.isdigit() }}{{ ''.isdigit() }}{{ '12a'.isdigit() }}{{ '٣'.isdigit() }}
{{ '²'.isdecimal() }}{{ '٣'.isdecimal() }}{{ '½'.isnumeric() }}{{ 'Ⅷ'.isnumeric() }}{{ 'a'.isnumeric() }}
{{ 'abc'.isalpha() }}{{ 'a1'.isalpha() }}{{ 'ä文'.isalpha() }}{{ 'a1'.isalnum() }}{{ 'a 1'.isalnum() }}{{ ''.isalnum() }}
{{ 'abc'.islower() }}{{ 'aBc'.islower() }}{{ '1'.islower() }}{{ 'a1!'.islower() }}{{ 'AB1'.isupper() }}{{ ''.isupper() }}
{{ ' \t\n'.isspace() }}{{ ''.isspace() }}{{ 'Ab Cd'.istitle() }}{{ 'AB'.istitle() }}{{ 'a'.istitle() }}{{ 'abc'.isascii() }}{{ 'ä'.isascii() }}
{{ 'a_1'.isidentifier() }}{{ '1a'.isidentifier() }}{{ 'a\n'.isprintable() }}{{ 'a '.isprintable() }}
{{ text.startswith('Hello') }}{{ text.startswith(('x', 'He')) }}{{ text.endswith('.') }}{{ text.endswith(('x',)) }}{{ text.startswith('w', 7) }}{{ text.endswith('o', 0, 5) }}
{{ 'a\tbc\td'.expandtabs() }}|{{ 'a\tbc'.expandtabs(4) }}
{{ ', '.join(['a', 'b']) }}{{ ''.join([]) }}{{ '-'.join('abc') }}{{ '-'.join(d) }}
{{ ', '.join([1, 2]) }}
{{ '{} and {}'.format('a', 1) }}{{ '{1}{0}'.format('a', 'b') }}{{ '{a.x} {b[0]} {c[k]}'.format(a={'x': 1}, b=[2], c={'k': 3}) }}{{ '{{}}'.format() }}
{{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }}{{ '{:05d}|{:+d}|{: d}|{:x}|{:#x}|{:b}|{:,}|{:_}'.format(42, 42, 42, 255, 255, 5, 1234567, 1234567) }}
{{ '{:.2f}|{:8.3f}|{:e}|{:g}|{:.3g}|{:%}|{:.1%}|{:08.2f}|{:+.1f}'.format(3.14159, 2.5, 12345.678, 0.00001, 1234567.0, 0.25, 0.5, -2.5, 2.25) }}
{{ '{!r}|{!s}|{:{}}|{:.{p}}'.format('a', 'b', 'c', 4, 'defg', p=2) }}{{ '{:10,}|{:010,}|{:c}|{:o}|{:X}'.format(1234, 1234, 65, 8, 255) }}
{{ '{:.3}|{}|{:5}|{:<5}|{:}'.format('abcdef', none, true, 3, [1]) }}{{ '{:g}|{:g}|{:G}|{}|{:.3}|{:.10}'.format(100000, 1e6, 1e-10, 1e16, 1234.5, 0.1) }}
{{ '{:d}'.format('a') }}
{{ '{'.format() }}
{{ '}'.format() }}
{{ '{}'.format() }}
{{ '{} {0}'.format(1) }}
{{ '{a}'.format_map({'a': 1}) }}
{{ '%s and %d%%' % ('a', 5) }}{{ '%s' % 'x' }}{{ '%5s|%-5s|%05d|%+d|% d|%x|%#x|%o|%X|%c|%r' % ('a', 'b', 42, 42, 42, 255, 255, 8, 255, 'c', 'd') }}
{{ '%.2f|%8.3f|%e|%g|%-8.1f|%08.1f|%.0f|%#.0f|%G|%i|%u' % (3.14159, 2.5, 12345.678, 0.00001, 2.5, -2.5, 2.5, 2.5, 1e-10, 3.9, 4) }}
{{ '%(a)s %(b)03d' % {'a': 1, 'b': 2} }}{{ '%*d|%.*f' % (5, 42, 2, 3.14159) }}{{ '%.2s|%5.1s|' % ('abc', 'xyz') }}{{ '%s' % [1, 2] }}{{ '%s' % none }}{{ '%.3d|%5.3d' % (7, 7) }}
{{ '%s' % ('a', 'b') }}
{{ '%s %s' % 'a' }}
{{ '%d' % 'a' }}
{{ '%y' % 1 }}
{{ 'abc' % 5 }}
{{ '%s-%s' | format('a', 1) }}{{ '%(x)s' | format(x=1) }}{{ '%03d' | format(7) }}
{{ 'x' | int }}{{ '42' | int }}{{ ' 42 ' | int }}{{ '4.7' | int }}{{ '0x1f' | int(base=16) }}{{ '11' | int(base=2) }}{{ none | int(5) }}{{ 3.9 | int }}{{ true | int }}{{ '1_000' | int }}{{ 'inf' | int(3) }}{{ '-5' | int }}{{ '0b11' | int(base=0) }}{{ [] | int }}
{{ missing | int }}
{{ '2.5' | float }}{{ 'x' | float }}{{ 3 | float }}{{ 'x' | float(1.5) }}{{ 'inf' | float }}{{ '1e3' | float }}{{ none | float }}
{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.567 | round(2) }}{{ 2.1 | round(method='ceil') }}{{ 2.9 | round(0, 'floor') }}{{ 5 | round }}{{ 1234 | round(-2) }}{{ 1250 | round(-2) }}{{ 1350 | round(-2) }}{{ 2.675 | round(2) }}{{ 1234.5 | round(-2) }}
{{ -3 | abs }}{{ (-2.5) | abs }}{{ true | abs }}
{{ 'x' | abs }}
{{ 1.0 }}{{ 1e16 }}{{ 1e15 }}{{ 1.5e-5 }}{{ 0.0001 }}{{ 1e100 }}{{ 0.1 + 0.2 }}{{ -0.0 }}{{ 1e22 }}{{ 123456789.123 }}
{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ 7 % -3 }}{{ 7 / 2 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7.5 // 2 }}{{ -7.5 % 2 }}{{ 2 * 3 + 4 }}{{ 2 + 3 * 4 }}{{ 6 / 3 }}{{ 4 - 5 }}
{{ -2 ** 2 }}{{ 2 ** 3 ** 2 }}{{ (1 + 2) * 3 }}{{ +5 }}{{ - 5 }}{{ 10 - 2 - 3 }}{{ 100 // 7 % 4 }}{{ 1 - -1 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.5 % 0 }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ [1] + (2,) }}
{{ -'a' }}
{{ 'a' ~ 1 ~ none ~ true ~ [1] ~ 2.5 ~ missing }}{{ 1 ~ 2 }}{{ 'a' + 'b' }}{{ [1] + [2] }}{{ (1,) + (2,) }}
{{ 'ab' * 3 }}{{ 3 * 'ab' }}{{ [1, 2] * 2 }}{{ 'a' * 0 }}{{ 'a' * -1 }}{{ (1, 2) * 2 }}
{{ 1 < 2 }}{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 1 == 1.0 }}{{ true == 1 }}{{ 'a' < 'b' }}{{ [1, 2] < [1, 3] }}{{ 1 != 2 }}{{ 2 >= 2 }}{{ 'a' == 'a' }}{{ [1] == [1] }}{{ [1] == (1,) }}{{ {'a': 1} == {'a': 1.0} }}{{ none == none }}{{ missing == missing2 }}{{ none == missing }}{{ 1 == '1' }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ missing < 1 }}
{{ 'a' in 'abc' }}{{ 1 in [1, 2] }}{{ 'a' in {'a': 1} }}{{ 3 not in [1, 2] }}{{ 'x' in missing }}{{ 1.0 in [1] }}{{ '' in 'a' }}{{ 2 in range(3) }}{{ [1] in [[1]] }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ not true }}{{ not 0 }}{{ true and 0 }}{{ '' or 'x' }}{{ 1 and 2 or 3 }}{{ not 1 == 2 }}{{ not missing }}{{ [] or {} or 'end' }}
{{ 'a' if yes }}{{ 'a' if no }}{{ 'a' if no else 'b' }}{{ 1 if no else 2 if no else 3 }}{{ ('x' if no) is defined }}
{{ text[0] }}{{ text[-1] }}{{ text[1:4] }}{{ text[::-1] }}{{ text[7:] }}{{ text[:-1] }}{{ text[::3] }}{{ text[5:1:-2] }}{{ text[100:] }}{{ text[-100:2] }}|{{ text[3:1] }}|{{ text[7] }}
{{ l[0] }}{{ l[-1] }}{{ l[1:] }}{{ l[::-1] }}{{ l[:2] }}{{ l[::2] }}{{ (1, 2, 3)[1:] }}{{ l[10] }}{{ l['x'] }}{{ l[-3:-1] }}{{ range(10)[2:8:3] }}{{ range(5)[-1] }}{{ l[none:2] }}
{{ l[::0] }}
{{ d.z }}{{ d['z'] }}{{ d.m.x }}{{ d['m']['x'] }}{{ d.a[1] }}{{ d.a.1 }}{{ d.missing }}{{ d['missing'] }}{{ l.0 }}{{ people[0].city.n }}{{ people.0.name }}
{{ i[1:] }}
{{ d[1:] }}
{{ 'a'.removesuffix(none) }}
{{ d.missing.x }}
{{ missing.x }}
{{ missing['x'] }}
{{ missing() }}
{{ missing + 1 }}
{{ none.x }}{{ none['x'] }}{{ i.x }}{{ 'abc'.x }}
{{ none.x.y }}
{{ text() }}
{{ d.items() }}{{ d.keys() }}{{ d.values() }}{{ d | items | list }}{{ d.get('z') }}{{ d.get('q') }}{{ d.get('q', 5) }}{{ d.copy() == d }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for k, v in d | items %}{{ k }}{% endfor %}{% for k in d.keys() %}{{ loop.last }}{% endfor %}{{ d.items() | length }}{{ d | list }}
{{ l.index(1) }}{{ l.count(3) }}{{ l.copy() }}{{ (1, 1).count(1) }}{{ (1, 2).index(2) }}
{{ l.append(4) }}
{{ d.update({}) }}
{{ l.index(9) }}
{{ d.__class__ }}
{{ ''.__class__.__mro__ }}
{{ [1, 'a', none, true, 2.5, {'k': (1,)}, ()] }}{{ ['it\'s', 'say "x"', 'both\'"', 'é\n\t\\', '\x01\x7f\xa0', '\u200b', '🦙'] }}{{ {1: 2, none: 3, (1, 2): 4, true: 5} }}{{ {} }}{{ [] }}{{ () }}
{{ range(3) }}{{ range(1, 4) | list }}{{ range(5, 0, -2) | list }}{{ range(0, 10, 3) }}{{ range(3) | length }}{{ range(3) | sum }}
{{ range(1000000) }}
{{ range(1, 2, 0) }}
{{ dict(a=1, b='x') }}{{ dict({'a': 1}, b=2) }}{{ dict([('k', 'v')]) }}{{ dict() }}
{% set ns = namespace(a=1) %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}{{ ns['a'] }}
{% set d.x = 1 %}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set _ = c.reset() %}{{ c.next() }}
{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c{% set k = joiner() %}{{ k() }}{{ k() }}
{{ l | sort }}{{ l | sort(reverse=true) }}{{ words | sort }}{{ words | sort(case_sensitive=true) }}{{ people | sort(attribute='age') | map(attribute='name') | list }}{{ people | sort(attribute='age,name', reverse=true) | map(attribute='name') | join(',') }}{{ d | sort }}{{ 'cab' | sort }}
{{ [1, 'a'] | sort }}
{{ words | unique | list }}{{ words | unique(case_sensitive=true) | list }}{{ people | unique(attribute='age') | map(attribute='name') | list }}{{ [1, 1.0, true, 2] | unique | list }}
{{ l | min }}{{ l | max }}{{ words | min }}{{ words | max }}{{ people | max(attribute='age') }}{{ [] | min }}{{ words | min(case_sensitive=true) }}
{{ l | sum }}{{ people | sum(attribute='age') }}{{ l | sum(start=10) }}{{ [1.5, 2] | sum }}{{ [] | sum }}
{{ ['a'] | sum }}
{{ l | first }}{{ l | last }}{{ text | first }}{{ text | last }}{{ [] | first }}{{ d | first }}{{ d | last }}{{ range(3) | last }}{{ (l | map('string')) | first }}
{{ l | reverse | list }}{{ text | reverse }}{{ d | reverse | list }}{{ range(3) | reverse | list }}{{ (1, 2) | reverse | join }}
{{ l | join }}{{ l | join(', ') }}{{ people | join(', ', attribute='name') }}{{ text | join('-') }}{{ d | join('|') }}{{ [none, true, 1.5] | join(',') }}{{ missing | join(',') }}
{{ l | length }}{{ text | length }}{{ d | count }}{{ missing | length }}{{ '' | length }}
{{ 5 | length }}
{{ (l | map('string')) | length }}
{{ l | list }}{{ 'abc' | list }}{{ missing | list }}{{ (1, 2) | list }}
{{ 5 | list }}
{{ words | map('upper') | list }}{{ words | map('replace', 'p', 'q') | join(' ') }}{{ people | map(attribute='city.n', default='?') | list }}{{ people | map(attribute='city') | list }}{{ d | map('length') | list }}{{ missing | map('upper') | list }}{{ [[1, 2], [3, 4]] | map(attribute=1) | list }}{{ [[1, 2]] | map(attribute='0') | list }}{{ l | map('default', 5) | list }}
{{ l | map | list }}
{{ l | map('nothing') | list }}
{{ [0, 1, '', 'a', none] | select | list }}{{ l | select('odd') | list }}{{ l | reject('odd') | list }}{{ l | select('gt', 1) | list }}{{ l | select('in', [1, 3]) | list }}{{ [0, 1] | reject | list }}{{ l | select('divisibleby', 3) | list }}
{{ people | selectattr('age', 'equalto', 30) | map(attribute='name') | list }}{{ people | rejectattr('age', 'gt', 26) | map(attribute='name') | list }}{{ people | selectattr('city') | list | length }}{{ people | selectattr('city', 'defined') | list | length }}
{{ people[:2] | selectattr('city.n', '==', 'Rome') | map(attribute='name') | list }}
{% if people | selectattr('age', 'gt', 99) %}a generator is true{% endif %}
{% set g = l | map('string') %}{{ g | list }}{{ g | list }}
{% for g, items in people | groupby('age') %}{{ g }}:{{ items | map(attribute='name') | join(',') }};{% endfor %}{% for g in words | groupby('0') %}{{ g.grouper }}{{ g.list }}{% endfor %}{{ people | groupby('city.n', default='none') | map(attribute='grouper') | list }}{{ [{'a': 'x'}, {'a': 'X'}] | groupby('a') }}{{ [{'a': 'x'}, {'a': 'X'}] | groupby('a', case_sensitive=true) }}
{{ people[:2] | groupby('city.n') | map(attribute='0') | list }}
{{ range(7) | batch(3) | list }}{{ range(7) | batch(3, 'x') | list }}{{ [] | batch(3) | list }}{{ range(7) | slice(3) | list }}{{ range(7) | slice(3, 'x') | list }}{{ [1] | slice(3) | list }}
{{ d | dictsort }}{{ d | dictsort(reverse=true) }}{{ {'b': 1, 'A': 2} | dictsort }}{{ {'b': 1, 'A': 2} | dictsort(case_sensitive=true) }}{{ {'b': 1, 'A': 2} | dictsort(by='value') }}
{{ d | dictsort(by='other') }}
{{ missing | default('x') }}{{ none | default('x') }}{{ none | default('x', true) }}{{ '' | d('x', boolean=true) }}{{ text | default('x') }}{{ missing | default }}{{ d.q | default(d.z) }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('> ', first=true) }}|{{ 'a\n' | indent }}|{{ '' | indent }}|{{ 'a\r\nb\r' | indent(1) }}|{{ 'a\n\n' | indent(2, blank=true) }}|
{{ 'hello big world foo' | truncate(11) }}|{{ 'hello big world foo' | truncate(11, true) }}|{{ 'hello big world' | truncate(11) }}|{{ 'hello big world foo' | truncate(9, false, '…', 0) }}|{{ 'helloworldfoobar' | truncate(8, leeway=0) }}
{{ text | wordcount }}{{ '' | wordcount }}{{ "it's a_b" | wordcount }}
{{ '<a href="x">&\'' | e }}{{ '<' | escape }}{{ '<b>' | forceescape }}{{ 5 | e }}
{{ 'a b/ä?&=' | urlencode }}|{{ {'a b': 'c/d', 'e': 1} | urlencode }}|{{ [('x', 'ü')] | urlencode }}|{{ 5 | urlencode }}
{{ 1 | filesizeformat }}|{{ 999 | filesizeformat }}|{{ 13000 | filesizeformat }}|{{ 1500000 | filesizeformat }}|{{ 4096 | filesizeformat(true) }}|{{ 1e30 | filesizeformat }}
{{ 1 | string }}{{ none | string }}{{ l | string | length }}{{ text | string }}{{ 2.0 | string }}
{{ d | attr('z') is defined }}{{ ('a' | attr('upper'))() }}
{{ text | safe }}
{{ x | nothing }}
{{ x is nothing }}
{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}{{ 'nope' is test }}
{{ d | tojson }}{{ l | tojson }}{{ 'é"\\\n\t\b\f\x01\x7f' | tojson }}{{ none | tojson }}{{ true | tojson }}{{ 1.0 | tojson }}{{ 1e16 | tojson }}{{ '<>&\'' | tojson }}{{ () | tojson }}{{ (1, 2) | tojson }}{{ {} | tojson }}{{ [] | tojson }}
{{ d | tojson(indent=2) }}{{ [] | tojson(indent=2) }}{{ [[], {}] | tojson(indent=1) }}{{ d | tojson(indent='--') }}{{ [1] | tojson(indent=0) }}{{ [1, [2]] | tojson(indent=-1) }}
{{ d | tojson(sort_keys=true) }}{{ d | tojson(separators=(',', ':')) }}{{ 'é🦙' | tojson(ensure_ascii=true) }}{{ d | tojson(indent=2, separators=(' ,', ' :')) }}{{ 'é' | tojson(true) }}{{ {1: 2, none: 3, 1.5: 4, false: 5} | tojson }}{{ ('inf' | float) | tojson }}
{{ missing | tojson }}
{{ range(3) | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ d.items() | tojson }}
{{ text is defined }}{{ missing is undefined }}{{ n is none }}{{ n is not none }}{{ text is string }}{{ d is mapping }}{{ l is sequence }}{{ l is iterable }}{{ i is number }}{{ f is float }}{{ i is integer }}{{ yes is true }}{{ no is false }}{{ yes is boolean }}{{ yes is integer }}{{ yes is number }}{{ text is iterable }}{{ d is sequence }}{{ range is callable }}{{ text is callable }}{{ n is defined }}{{ i is iterable }}{{ missing is iterable }}{{ (1,) is sequence }}{{ d.items() is sequence }}{{ l is mapping }}
{{ 3 is odd }}{{ 3 is even }}{{ 6 is divisibleby 3 }}{{ 6 is divisibleby(4) }}{{ 1 is eq 1 }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 2 is le 2 }}{{ 3 is gt 2 }}{{ 3 is ge 4 }}{{ 1 is equalto 1 }}{{ 1 is in [1] }}{{ 1 is sameas 1 }}{{ l is sameas l }}{{ l is sameas [3, 1, 2] }}{{ 'a' is lower }}{{ 'A' is upper }}{{ 'a' is escaped }}{{ none is sameas none }}{{ 3 is greaterthan 2 }}{{ 3 is lessthan 2 }}{{ true is sameas true }}
{{ 1 is not defined or yes }}{{ 'x' if text is defined and l is sequence else 'y' }}{{ text is string and text | length > 3 }}{{ not missing is defined }}
{{ 'a' is odd }}
{{ 1_000 + 0x1F + 0b101 + 0o17 }}{{ 1.5e3 }}{{ 1e-2 }}{{ 0.5 }}{{ 10_0.5 }}{{ 1E5 }}
{{ 'a' "b" 'c' }}{{ "tab\tnew\nq\"u'o\\te\x41\u00e9\101\d" }}{{ 'multi
line' }}{{ '\
' }}
{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}
{{ (1) }}{{ (1,) }}{{ 1, 2 }}{{ [1, 2,] }}{{ {'a': 1,} }}{{ ((1, 2), [3]) }}
{{ {'a': 1}['a'] }}{{ [1, 2][0] }}{{ 'abc'[1] }}{{ 'abc'.upper()[0] }}{{ ('a' ~ 'b')[1] }}{{ -l[0] }}{{ -1 | abs }}{{ l | length + 1 }}{{ 2 + l | length }}{{ 'a' ~ 'b' | upper }}
{{ raise_exception('no') }}
{{ range(*[1, 3]) | list }}{{ dict(**{'a': 1}) }}{{ range(1, *[3]) | list }}
{{ l.x is defined }}{{ text.upper is callable }}{{ (text.upper)() }}{{ text['upper']() }}{{ d['get']('z') }}
{{ f.is_integer() }}{{ 2.0 .is_integer() }}
{{ l|map('float')|sum / l|length }}{{ l | sort | first }}{{ (l | sort)[0] }}
{{ 5 }}{{- 6 -}} {{ 7 }} {{+ 8 }}
{{ 'x' | center(5) | trim | upper | lower }}
{{ loop }}
{{ super() }}
{{ (10 ** 3) | string }}{{ 'ß' | upper }}{{ 'ÀÉ' | lower }}{{ 'éa' | capitalize }}
{{ {'a': {'b': [1, {'c': 2}]}} }}{{ {'a': 1, 'a': 2} }}{{ {1: 'a'}[true] }}{{ {'x': 1}.x }}{{ {'items': 3}['items'] }}
{{ [[1]] }}{{ [l, l] }}{{ [missing] }}{{ [text[:2], 'a' ~ 1] }}
"""

# Templates between lines of dashes, with the variables `DATA`.
STATEMENTS = r"""
{% for x in l %}{{ x }}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
----
{% for x in l %}{{ loop.previtem }}-{{ loop.nextitem }}{{ loop.previtem is defined }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }};{% endfor %}
----
{% for x in l if x > 1 %}{{ x }}{{ loop.length }}{{ loop.last }}{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}
----
{% set ns = namespace(n=0) %}{% for x in l if ns.n == 0 %}{{ x }}{% set ns.n = 1 %}{% endfor %}
----
{% set ns = namespace(n=0) %}{% for x in l if ns.n == 0 %}{{ x }}{{ loop.last }}{% set ns.n = 1 %}{% endfor %}
----
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}no{% endfor %}
----
{% for x in l %}{% break %}{% else %}no{% endfor %}{% for x in l %}{% continue %}{% else %}no{% endfor %}
----
{% for x in [[1, [2, [3]]], 4] recursive %}{% if x is iterable %}({{ loop(x) }}){{ loop.depth }}{% else %}{{ x }}{% endif %}{% endfor %}
----
{% for x in l %}{{ loop(x) }}{% endfor %}
----
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = (3, 4) %}{{ c }}{{ d }}
----
{% set a, b = [1] %}
----
{% for x in 5 %}{% endfor %}
----
{% for x in none %}{% endfor %}
----
{% for x in missing %}x{% else %}none{% endfor %}{% for c in 'aé' %}[{{ c }}]{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}
----
{% set x = 1 %}{% for i in l %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}
----
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% with %}{% set x = 3 %}{{ x }}{% endwith %}{{ x }}
----
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}
----
{% set x %}a{{ 1 }}b{% endset %}[{{ x }}]{% set y | upper | trim %} abc {% endset %}[{{ y }}]
----
{% filter upper %}a{{ text }}b{% endfilter %}{% filter replace('a', 'b') | upper %}banana{% endfilter %}
----
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c=4) }}|{{ m(b=1, a=2) }}|{{ m() }}|{{ m.name }}|{{ m }}
----
{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}{{ m() }}
----
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
----
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
----
{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}inner{{ text[0] }}{% endcall %}{% macro n(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(a, b) n(1) %}{{ a }}-{{ b }}{% endcall %}
----
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
----
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
----
{% macro m() %}{{ v }}{% endmacro %}{% set v = 1 %}{{ m() }}{% set v = 2 %}{{ m() }}{% for v in l %}{{ m() }}{% endfor %}
----
{% for i in l %}{% macro m() %}<{{ i }}>{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}
----
{% macro m() %}{% set a = 1 %}{{ a }}{% endmacro %}{{ m() }}{{ a is defined }}{{ m() | length }}{{ m() ~ 'x' }}
----
{% if no %}a{% elif yes %}b{% else %}c{% endif %}{% if no %}{% elif no %}{% else %}c{% endif %}{% if 1, 2 %}t{% endif %}
----
  {% if yes %}
  a
    {% if yes %}
    b
    {% endif %}
  {% endif %}
c
----
a {%- if yes -%} b {%- endif -%} c
  {%+ if yes %}d{% endif +%}
e
----
{# comment #}
a {#- b -#} c
  {# indented #}
d {# x {{ y }} {% z %} #}

e
----
{% raw %}{{ x }} {% generation %}{% endraw %}a
 {%- raw -%}  b {%- endraw -%}  c
  {% raw %}
  d
  {% endraw %}
e
----
{{ '{% raw %}' }}{{ "{{ x }}" }}{{ '}}' }}{{ {'a': {}} }}{{ '{# x #}' }}
----
{% generation %}{{ text }}{% endgeneration %}|{%- generation -%}  x  {%- endgeneration -%}  y {# {% generation %} #}{{ '{% generation %}' }}
----
x
  {% generation %}
  {{ text }}
  {% endgeneration %}
y
----
{% generation %}{% set inner = 1 %}{% endgeneration %}{{ inner is defined }}
----
{% print 1, 2 %}{% autoescape false %}<{% endautoescape %}{% block b %}in {{ i }}{% endblock %}{% block c %}{% endblock c %}
----
{% do l %}
----
{% include 'x' %}
----
{% import 'x' as y %}
----
{% from 'x' import y %}
----
{% extends 'x' %}
----
{% unknown %}
----
{% if %}{% endif %}
----
{% if yes %}
----
{% endif %}
----
{{ }}
----
{{ a b }}
----
{{ 'abc }}
----
{{ (1 }}
----
{{ 1) }}
----
{{ [1, 2 }}
----
{% for x in l %}{% endif %}
----
{{ a is b is c }}
----
{{ f(a=1, 2) }}
----
{# no end
----
{% raw %} no end
----
{{ 1 if }}
----
{{ $ }}
----
{% break %}
----
{% set 1 = 2 %}
----
{% set true = 2 %}
----
{% macro m(a=1, b) %}{% endmacro %}
----
{% for x in l: %}{{ x }}{% endfor %}{% if yes: %}y{% endif %}
----
{%for x in l%}{{x}}{%endfor%}{{text|upper|lower}}{{-1}}{{ - 1}}
----
line one
line two
{% set a = 1 %}

after{% if yes %}

x{% endif %}

y
{{ 'end' }}

----
{%- set loop_messages = messages | rejectattr('role', 'equalto', 'system') | list -%}
{%- for m in loop_messages -%}{{ m.role ~ ': ' ~ m.content.split('</think>')[-1].strip() ~ '\n' }}{%- endfor -%}
----
{%- for message in messages | selectattr('role', 'in', ['user', 'assistant']) -%}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ message.role }};{%- endfor -%}
----
{%- set ns = namespace(found=false, text='') -%}{%- for m in messages | reverse -%}{%- if not ns.found and m['role'] == 'user' -%}{%- set ns.found = true -%}{%- set ns.text = m['content'] -%}{%- endif -%}{%- endfor -%}{{ ns.text | tojson }}{{ ns.text | string | length }}
----
{{ messages }}{{ messages | tojson }}{{ messages | map(attribute='role') | unique | join('/') }}{{ messages[0].keys() | list }}{{ messages[-1]['content'].splitlines() }}
----
{% set x = messages[0].content %}{{ x.strip().upper().replace('BE', 'be')[:3] }}{{ x ~ x | trim }}{{ (x ~ x) | trim | length }}
----
{% if tools is none and documents is none and not tools %}no tools{% endif %}{{ tools is defined }}{{ tool_choice is defined }}
----
{{ bos_token }}{{ eos_token }}{{ bos_token + eos_token ~ (bos_token | upper) }}{{ unk_token }}
----
{% set l2 = [] %}{% for x in l %}{% set l2 = l2 + [x] %}{% endfor %}{{ l2 }}{% set ns = namespace(l=[]) %}{% for x in l %}{% set ns.l = ns.l + [x * 2] %}{% endfor %}{{ ns.l }}
----
{% macro outer() %}{% macro inner(x) %}<{{ x }}>{% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer() }}
----
{%- macro attr(o, k) -%}{{ o[k] if k in o else 'none' }}{%- endmacro -%}{{ attr(d, 'z') }}{{ attr(d, 'q') }}{{ [1, 2] | map('string') | map('replace', '1', 'one') | join }}
----
{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'b': 1, 'a': 2}.items() %}{{ loop.index }}{{ k }}{{ v }}{% endfor %}
----
{% for row in range(5) | batch(2, '-') %}{{ row | join(' ') }}/{% endfor %}{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{% endfor %}{{ loop.index }}{% endfor %}
----
{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set rest = messages -%}{%- endif -%}{{ system | trim }}{{ rest | length }}{{ rest[0].role }}
----
{% set x = 'outer' %}{% macro m(x) %}{{ x }}{% set x = 'in' %}{{ x }}{% endmacro %}{{ m('arg') }}{{ x }}
----
{% set items = ['a', 'b'] %}{% for item in items %}{{ item }}{{ ', ' if not loop.last }}{% endfor %}{{ items | join(' and ') }}
"""


CONTEXTS = {
    "plain": {},
    "tools": WITH_TOOLS,
    "data": DATA,
    "short": {"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": False},
    "documents": {"documents": [{"title": "one", "text": " A. "}, {"title": "two", "text": "B"}]},
    "no thinking": {"enable_thinking": False},
}

# The file's vocabulary has these, so that they are not among the variables.
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def cases():
    for context in ["plain", "tools", "short"]:
        yield from ((source, context) for source in MODELS.values())
    yield COMMAND, "documents"
    yield QWEN3, "no thinking"
    # A string may go on in the next line: such an expression ends where its string does.
    source = ""
    for line in EXPRESSIONS.strip("\n").split("\n"):
        source = f"{source}\n{line}" if source else line
        if not source.endswith(("{{ 'multi", "\\")):
            yield source, "data"
            source = ""
    for source in STATEMENTS.strip("\n").split("\n----\n"):
        yield source, "data"


def main():
    env = environment()
    contexts = {name: {**CONTEXT, **variables} for name, variables in CONTEXTS.items()}
    written = []
    for source, context in cases():
        try:
            expected = env.from_string(source).render(**TOKENS, **contexts[context])
        except Exception:
            expected = None
        written.append({"template": source, "context": context, "expected": expected})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat-templates.json")
    with open(path, "w") as out:
        out.write('{"contexts":{\n')
        lines = (json.dumps(name) + ":" + json.dumps(contexts[name], ensure_ascii=False) for name in contexts)
        out.write(",\n".join(lines) + '\n},\n"cases":[\n')
        out.write(",\n".join(json.dumps(case, ensure_ascii=False) for case in written) + "\n]}\n")
    print(len(written), "cases,", sum(case["expected"] is None for case in written), "of them errors")


if __name__ == "__main__":
    main()
