"""Questions in Chinese, Japanese and Korean, of which the frames are endings and particles."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

__all__ = ["unspaced_form"]

_QUOTED: Final = re.compile(r"([\u300c\u300e\"][^\u300d\u300f\"]{8,}[\u300d\u300f\"])")
_SENTENCE: Final = re.compile(r"[^。？！?]+[。？！?]?")
_SPACES: Final = re.compile(
    r"(?<=[^\x00-\x7f])\s+(?=[\x00-\x7f])|(?<=[\x00-\x7f])\s+(?=[^\x00-\x7f])"
)
_BARE_SIGNS: Final = re.compile(r"[`{}\[\]<>=\\|~^*&$@]")

_CHINESE: Final = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^(?:你好|您好|嗨|哈喽)[,，!！。]?", ""),
        (
            r"^(?:请问一下|请问|请教一下|我想知道|我想问一下|我想问|想问一下|想问|"
            r"能不能告诉我|能告诉我|"
            r"你能告诉我|可以告诉我|请告诉我|告诉我|麻烦问一下)[,，]?",
            "",
        ),
        (r"^(?:请|麻烦)(?=.{3,})", ""),
        (r"[,，]?(?:谢谢|多谢|谢谢你|谢谢您)$", ""),
        (
            r"怎么样才能|怎样才能|怎么才能|如何才能|怎样|如何|要怎么|该怎么|应该怎么|应如何|该如何",
            "怎么",
        ),
        (r"怎么办呢?$|该怎么办$|怎么处理$", "怎么办"),
        (r"为何|为啥", "为什么"),
        (r"哪儿|哪里|什么地方", "哪里"),
        (r"多长时间|多少时间", "多久"),
        (r"(?:需要|要)(?=多久|多少)", ""),
        (r"与|跟", "和"),
        (r"(?:有什么区别|有何区别|有什么不同|有何不同|有什么差别|区别在哪里)$", "的区别"),
        (r"(?:之间)?的(?:区别|不同|差别|差异)(?:是什么|在哪里|有哪些)?$", "的区别"),
        (r"^(.*?)(能不能|可不可以|能否|可否|是否可以)(.+?)吗?$", r"\1可以\3吗"),
        (r"^(.*?)能(.+?)吗$", r"\1可以\2吗"),
        (r"什么时候|何时", "什么时候"),
        (r"^什么是(.+)$", r"\1是什么"),
        (r"(?:呢|啊|呀)$", ""),
        (r"(?:是什么|是多少)$", ""),
        (r"(?:多少钱|要多少钱|价格是多少)$", "多少钱"),
        (r"一下", ""),
        (r"的话(?=[,，])", ""),
        (r"(?<=\d)厘米", "cm"),
        (r"(?<=\d)毫米", "mm"),
        (r"(?<=\d)(?:公里|千米)", "km"),
        (r"(?<=\d)(?:公斤|千克)", "kg"),
        (r"(?<=\d)毫升", "ml"),
        (r"(?<=\d)毫克", "mg"),
        (r"(?<=\d)(?:块钱|块|元)", "元"),
        (r"(?<=\d)(?:小时|个小时|个钟头)", "小时"),
        (r"^([^,，的说想问认觉告]{1,4})为什么(?=.)", r"为什么\1"),
    )
)
_JAPANESE: Final = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (
            r"^(?:こんにちは|こんばんは|おはようございます|すみません(?:が)?|"
            r"恐れ入りますが)[、,。]?",
            "",
        ),
        (r"(?:よろしくお願いします|ありがとうございます)$", ""),
        (r"下さい", "ください"),
        (r"何故|どうして|なんで", "なぜ"),
        (r"出来", "でき"),
        (r"どのように(?:して)?|どうやって|どういうふうに|どのようにすれば", "どう"),
        (r"どうすれば(?:いい|良い|よい)", "どうすればいい"),
        (r"(?:どの|どれ)(?:くらい|ぐらい)", "どれくらい"),
        (r"(?:は)?どう違(?:い|う)(?:ます|の|んです|のです|のでしょう)?か$", "の違い"),
        (r"とは(?:(?:何|なに|なん)(?:です|でしょう)?か?)?$", ""),
        (r"って(?:何|なに|なん)(?:ですか)?$", ""),
        (r"(?:の|ん)(?:です|でしょう)か$", "か"),
        (r"(?:なの|なん)(?:です|でしょう)か$", "か"),
        (r"(?:ですか|でしょうか|ですか$|だろうか)$", "か"),
        (r"しますか$", "するか"),
        (r"できますか$", "できるか"),
        (r"ありますか$", "あるか"),
        (r"りますか$", "るか"),
        (r"きますか$", "くか"),
        (r"みますか$", "むか"),
        (r"ちますか$", "つか"),
        (r"びますか$", "ぶか"),
        (r"ぎますか$", "ぐか"),
        (r"([えけせてねべめれげぜでへ])ますか$", r"\1るか"),
        (r"いいか$|よいか$|良いか$", "いいか"),
        (
            r"(?:を|について)(?:教えて(?:ください|いただけますか|くれますか|もらえますか|"
            r"ほしい|ほしいです)"
            r"|知りたいです|知りたい)$",
            "は何か",
        ),
        (
            r"(?:か)?(?:教えて(?:ください|いただけますか|くれますか|もらえますか)|知りたいです)$",
            "か",
        ),
        (r"は(?:何|なに|なん)(?:です)?か$", "は何か"),
        (r"は$", "は何か"),
        (r"は何か$", ""),
        (r"株式", "株"),
        (
            r"(?:に|の)はどう(?:すればいい|したらいい|する|やる|やればいい)か$|のやり方$|の仕方$",
            "方法",
        ),
        (r"(?<=\d)センチ(?:メートル)?", "cm"),
        (r"(?<=\d)キログラム", "kg"),
        (r"(?<=\d)グラム", "g"),
        (r"(?<=\d)キロメートル", "km"),
        (r"(?<=\d)ミリリットル", "ml"),
    )
)
_KOREAN: Final = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^(?:안녕하세요|안녕)[,.!]? ?", ""),
        (r"[,.]? ?(?:감사합니다|고맙습니다|부탁드립니다|부탁드려요)$", ""),
        (r"^(?:혹시|저기) ", ""),
        (r"좀 (?=알려|가르쳐)", ""),
        (
            r"(?:을|를) (?:알려 ?주세요|가르쳐 ?주세요|알려 ?주실 ?수 ?있나요|알고 싶어요|"
            r"알고 싶습니다)$",
            " 무엇",
        ),
        (
            r"(?:은|는|이|가) (?:무엇인가요|무엇입니까|뭔가요|뭐예요|뭐에요|뭐죠|무엇이죠|"
            r"무엇이에요)$",
            " 무엇",
        ),
        (
            r"(?:하나요|합니까|해요|하죠|하는 ?건가요|해야 ?하나요|하면 ?되나요|"
            r"해야 ?합니까|하면 ?될까요)$",
            "하나",
        ),
        (r"(?:인가요|입니까|이에요|예요|일까요|인지요)$", "인가"),
        (r"(?:나요|습니까|을까요|ㄹ까요|은가요|가요)$", "나"),
        (r"(?:있나요|있습니까|있어요|있죠|있나)$", "있나"),
        (r"(?:되나요|됩니까|돼요|되죠|되나)$", "되나"),
    )
)


def unspaced_form(text: str, *, keeps_quotations: bool) -> str | None:
    """Return the form that harmless wordings share; ``None`` where every sign counts.

    Args:
        text: With one form for each sign.
        keeps_quotations: Whether a text of this kind counts to the letter.
    """
    if keeps_quotations or _QUOTED.search(text) or _BARE_SIGNS.search(text):
        return None
    text = normalize("NFKC", text)
    rules = _KOREAN if _HANGUL.search(text) else _JAPANESE if _KANA.search(text) else _CHINESE
    text = text if rules is _KOREAN else _SPACES.sub("", text)
    forms, asked = [], []
    for found in _SENTENCE.findall(text):
        said = found.strip().rstrip("。?!").strip()
        for pattern, new in rules:
            said = pattern.sub(new, said).strip()
        if said:
            asked.append(found.rstrip().endswith("?"))
            forms.append(re.sub(r"\s*[,，、]\s*", " ", said))
    if sum(asked) == 1:
        at = asked.index(True)
        forms.append(forms.pop(at))
    return "\n".join(forms) or None


_HANGUL: Final = re.compile(r"[\uac00-\ud7af]")
_KANA: Final = re.compile(r"[\u3041-\u30ff]")
