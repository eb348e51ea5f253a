"""Prompts that a shell, a template, a file system, a page or a terminal might interpret."""

HOSTILE = [
    "a tram $(touch owned) in the rain",
    "a boat `touch owned` on a lake",
    "a dog; touch owned; rm -rf results & a cat | tee owned",
    "a plane {wildcard} {output} {{ 7 * 7 }} %s %(x)s",
    "../../etc/passwd on a wooden table",
    "a sign that says <script>alert(1)</script> and <img src=x onerror=alert(2)>",
    "=cmd|' /C calc'!A0 typed by a robot",
    "a \"quoted\" 'wall' \\ with a backslash",
    "a house\nin two lines\r\nand a NUL \x00 inside",
    "\u202eright to left override\u202c of a market",
    "سوق قديم في المساء مع أضواء",
    "夜晚的东京街头下着雨",
    "a family 👨‍👩‍👧‍👦 eats ice cream 🍦",
    "zero\u200bwidth and combining e\u0301\u0323 marks",
    "a lone \ud800 surrogate in the sky",
    "long " + "слово 字 كلمة word " * 600 + "end",
]

# All of them, joined into as many prompts as a test's full run has.
WORST = [
    "a tram $(touch owned) `touch owned`; touch owned & a cat | tee owned > owned",
    "{wildcard} {output} {{ 7 * 7 }} %s %(x)s ../../etc/passwd <script>alert(1)</script> touch owned",
    "a \"quoted\" 'wall' \\ and a house\nin two lines\r\nand a NUL \x00 inside",
    "\u202eright to left\u202c سوق قديم 夜晚的东京 👨‍👩‍👧‍👦 zero\u200bwidth \ud800 e\u0301\u0323",
    HOSTILE[-1],
    "=cmd|' /C calc'!A0 $(touch owned) <img src=x onerror=alert(2)>",
]
