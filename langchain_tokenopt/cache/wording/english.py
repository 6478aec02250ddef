"""What is said around a question in English."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.cache.wording.language import (
    Language,
    counting,
    groups_of,
    kinds_of,
    words_of,
)

__all__ = ["ENGLISH"]

_REQUESTS: Final = (
    "(?:write|give|list|explain|summari[sz]e|translate|show|name|describe|suggest|recommend|draft|"
    "create|generate|calculate|compute|convert|solve|tell|compare|help)"
)
_ASKED: Final = (
    "what|where|who|when|why|"
    "how(?: (?:far|tall|high|long|old|big|wide|deep|heavy|fast|much|often))?"
)
_MONTHS: Final = (
    "january|february|March|march|april|May|june|july|August|august|september|october|november|"
    "december"
)

ENGLISH: Final = Language(
    code="en",
    known_by=words_of(
        "the is are was does do did what how why who which where when can could should would will "
        "my i you your for with from this that of to in on and not have has an it if there "
        "write give list explain summarize summarise translate name describe suggest recommend "
        "draft calculate compute convert solve tell compare add sort turn put make find"
    ),
    asking=words_of("what how why where when who whom whose which"),
    polite=words_of(
        "hi hello hey thanks cheers thx hi_there hello_there hey_there hi_all hi_everyone "
        "hello_everyone good_morning good_afternoon good_evening good_day thank_you many_thanks "
        "thank_you_very_much thank_you_so_much thanks_in_advance thank_you_in_advance "
        "thanks_a_lot thanks_so_much please thanks_very_much quick_question"
    ),
    same={
        **groups_of(
            "is are|was were|do does|have has|buy purchase|begin start commence|film movie|"
            "car automobile|error mistake|photo picture|difference distinction|"
            "method way|quick fast|big large|delete erase remove|change modify alter|"
            "choose select|vacation holiday|gasoline petrol|please pls plz|"
            "stay remain|stays remains|needs requires|begins starts commences|happens occurs|"
            "need require|get obtain|help assist|happen occur|"
            "reply respond|live reside|show display|allow permit|often frequently|ill sick|"
            "sofa couch|taxi cab|rubbish garbage trash|repair fix|bought purchased|"
            "allowed permitted|shown displayed|repaired fixed|needed required|"
            "changed modified altered|deleted removed erased|began started commenced|"
            "email e-mail|gray grey|tire tyre|program programme|"
            "jewelry jewellery|aluminum aluminium|airplane aeroplane|mom mum|math maths|"
            "catalog catalogue|dialog dialogue|judgment judgement|aging ageing|enroll enrol|"
            "fulfill fulfil|pajamas pyjamas|plow plough|skeptical sceptical|check cheque|"
            "child children kid kids|physician doctor|"
            "television tv|refrigerator fridge|telephone phone|advertisement advert ad|"
            "maximum max|minimum min|kilometer km|kilogram kg|centimeter cm|millimeter mm|"
            "approximately approx roughly|percent pct|okay ok|"
            "till until|everybody everyone|anybody anyone|somebody someone|nobody no-one"
        ),
        "which": "what",
        "postgres": "postgresql",
        "js": "javascript",
        "k8s": "kubernetes",
        "ts": "typescript",
        "u": "you",
        "men": "man",
        "women": "woman",
        "feet": "foot",
        "teeth": "tooth",
        "mice": "mouse",
        "leaves": "leaf",
        "knives": "knife",
        "wives": "wife",
        "shelves": "shelf",
    },
    articles=words_of("a an the"),
    counted=words_of(
        "few little lot second third fourth fifth last next same other most more only half quarter "
        "first one whole bit"
    ),
    numbers=counting(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty",
        thirty="30",
        forty="40",
        fifty="50",
        sixty="60",
        seventy="70",
        eighty="80",
        ninety="90",
    ),
    within="in",
    prepositions=words_of(
        "in on at for with from to during into after before without within under over near inside "
        "outside via about between across against around through"
    ),
    rewrites=(
        (r"^i (?:have|had|have got) (?:quick |short |simple |small )?question , ", ""),
        (r"^(?:quick |short |simple |small )question , ", ""),
        (r"^(?:hi|hello|hey|dear)(?: there| all| everyone| team)? , ", ""),
        (r"^(?:please|kindly)(?: ,)? (?=\S+ )", ""),
        (
            r"^(?:can|could|would|will) (?:you|anyone|someone|anybody|"
            r"somebody)(?: please| kindly)? "
            r"(?:tell|explain to|let) me(?: know)?(?: please)?(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^(?:can|could|would|will) you (?:please )?help me (?:to )?understand (?=ASK )", "@ "),
        (rf"^(?:can|could|would|will) you (?:please |kindly )?(?={_REQUESTS}\b)", ""),
        (rf"^i (?:want|need|would like) you to (?:please )?(?={_REQUESTS}\b)", ""),
        (
            r"^(?:please |kindly )?(?:tell me|explain to me|"
            r"let me know|explain|describe)(?: please)?(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^do (?:you|anyone|anybody|someone|somebody)(?: happen to)? know(?: ,)? (?=ASK )", "@ "),
        (
            r"^do (?:you|anyone|anybody|someone|somebody) know (?:any |of )?method (?:to|of|for) ",
            "how to ",
        ),
        (r"^(?:do you have )?any idea(?: of| on)? (?=ASK )", "@ "),
        (
            r"^i (?:want|need|wish|would like|would love|am trying|am curious|just want)"
            r"(?: to (?:know|ask|ask you|understand|find out))?(?: ,)? (?=ASK )",
            "@ ",
        ),
        (r"^i (?:was|am)(?: just)? wondering(?: ,)? (?=ASK )", "@ "),
        (r"^(?:can|may|could|might) i (?:please )?(?:ask|know)(?: you)?(?: ,)? (?=ASK )", "@ "),
        (r"^(?:tell|give) me (?=\S+ \S)", ""),
        (rf"^({_REQUESTS}) me (?=\S)", r"\1 "),
        (
            r" ,(?: please| kindly| thanks| thank you(?: very much| so much)?| thx)"
            r"(?: in advance)?$",
            "",
        ),
        (r"(?<!say|ord| of|out|for|and) please$", ""),
        (r"^how come ((?:\S+ ){1,3}?)(is|was|can) ", r"why \2 \1"),
        (r"^how come (?=\S)", "why "),
        (r"^name (?=\d+ )", ""),
        (rf"^@ ({_ASKED}) (?!to )((?:\S+ )*?\S+) is$", r"\1 is \2"),
        (
            rf"^@ ({_ASKED}) (?!to )((?:\S+ )*?\S+) is (?=in |on |at |for |from )",
            r"\1 is \2 ",
        ),
        (r"^@ ", ""),
        (r"^(?:is it (?:allowed|permitted) (?:for me )?|am i (?:allowed|permitted) )to ", "may i "),
        (
            r"^(why (?:is|do|was|can|could|will|would|should|have)) "
            r"((?:(?!(?:that|who|which|whose|when|if|and|or|but|is|do|was|have|can|will|would|"
            r"should|could|to|,) )\S+ ){1,3}?)not (?=\S)",
            r"\1 not \2",
        ),
        (r"\b(?:has|have) to\b", "need to"),
        (
            r"^(how (?:often|long|much|many|early|soon)(?: \S+)?) "
            r"(?:must (?:i|we|one)|do (?:i|we|one) need to) (?=\S)",
            r"\1 must i ",
        ),
        (r"^(how long) will (.+ take)$", r"\1 do \2"),
        (r"^what (?:happens|(?:will|would) happen) (?=if )", "what happen "),
        (r"^when is (?=(?:best|right|ideal|good) time (?:to|for) )", "what is "),
        (
            r"^(what (?!(?:is|do|are|can|should|would|will|was) )\S+) "
            r"((?:is|do|can|should|must|may) .+) (at|for|from)$",
            r"\3 \1 \2",
        ),
        (r"^what ((?!is |else )\S+(?: \S+)?) do (.+) have$", r"\1 of \2"),
        (r"^(?:is it (?:needed|necessary) to|must (?:i|we|one)) ", "do i need to "),
        (
            r"^is (?!(?:it|this|that|there|he|she|they|you) )(\S+(?: \S+)?) "
            r"(?:needed|necessary)(?=$| )",
            r"do i need \1",
        ),
        (r"\b((?:after|once|when|until) (?:\S+ ){1,4})(?:has|have) (\S{3,})ed\b", r"\1\2s"),
        (r"^(ASK) (?:exactly|actually|precisely|really) ", r"\1 "),
        (r"\bis there (?=in |on |at )", "is "),
        (r"^(where is .+) (?:located|situated)$", r"\1"),
        (r"^who (?:is|was) (?:author|writer) of ", "who wrote "),
        (r"^who (?:is|was) inventor of ", "who invented "),
        (r"^who (?:is|was) founder of ", "who founded "),
        (r"\b(?:per|each|every) (annum|year|month|week|day|hour|person)\b", r"\1"),
        (r"\bannum\b", "year"),
        (rf"\b(\d+)(?:st|nd|rd|th)?(?: of)? ({_MONTHS})\b", r"\2 \1"),
        (rf"\b({_MONTHS}) (\d+)(?:st|nd|rd|th)\b", r"\1 \2"),
        (r"(?:^|(?<=, ))how (?:do|can|could|would) (?:i|we|one) ", "how to "),
        (
            r"^what (?:should|can|could|must|do) (?:i|we|one) (?:need to )?do to (?=\S)",
            "how to ",
        ),
        (r"^how to become (?=\S)", "how to be "),
        (r"^what is some of (?=\S)", "what is some "),
        (r"^((?:do|is|can|will) (?!.*\bnot\b)(?:\S+ ){1,4}?)really (?=\S)", r"\1"),
        (
            r"^what is (?:correct |right |proper |usual |some )?(?:method|procedure) "
            r"(?:to|of|for) ",
            "how to ",
        ),
        (
            r"^(?:(?:is there (?:any )?method|is it possible|is there any possibility) "
            r"(?:to|of|for)|can (?:i|we|one)) ",
            "possible to ",
        ),
        (r"(?:^|(?<=, ))where (?:do|can|could|would) (?:i|we|one) ", "where to "),
        (r"^for how long ", "how long "),
        (r"^in what (year|month|country|city|way|century|case)\b", r"what \1"),
        (r"^what is meaning of (.+)$", r"what \1 mean"),
        (r"^what is meant by (.+)$", r"what \1 mean"),
        (r"(?:^|(?<=, ))((?:what|how)(?: (?!to )\S+)?|why|when|where|who) do (?=\S+ \S)", r"\1 "),
        (
            r"^what ((?!to )\S+(?: (?!is )\S+)?) is "
            r"(best|worst|(?!west\b)\S{2,}est|the most \S+|most \S+)\b",
            r"what is \2 \1",
        ),
        (r"\bin (?:one|single|1|just one)(?: short)? (sentence|line|paragraph|word)\b", r"in 1 \1"),
        (r"\bdegrees? celsius\b", "°c"),
        (r"\bdegrees? fahrenheit\b", "°f"),
        (r"\bper (?:cent|centum)\b", "%"),
        (r"(?<= )(\S+) 's ((?:\S+ )?\S+)$", r"\2 of \1"),
        (r"^(?:how much|what) (?:do )?(.+) cost$", r"price of \1"),
        (r"^what is (?:cost|price) of (.+)$", r"price of \1"),
        (r"^how (?:tall|high) is ", "height of "),
        (r"^how long is ", "length of "),
        (r"^how wide is ", "width of "),
        (r"^how deep is ", "depth of "),
        (r"^how old is ", "age of "),
        (r"^how far is it ", "distance "),
        (r"^how far is (\S+) from ", r"distance between \1 and "),
        (r"^distance from (.+) to (.+)$", r"distance between \1 and \2"),
        (r"^(?:calculate|compute|evaluate|determine|work out) (?=\S)", ""),
        (r"\b(?:this|following) (text|sentence|phrase|paragraph|message|email)\b", r"\1"),
        (r"^((?!ASK)\S+(?: \S+)?) (?:this|following)$", r"\1"),
        (r"(?<= , )(\S+(?: \S+)?) or (\S+(?: \S+)?)$", r"between \1 and \2"),
        (r"\b(?:versus|vs|v)\b", "versus"),
        (r"^what is (?=\S+ \S)", ""),
        (r" of$", ""),
    ),
    kinds=kinds_of(
        modal="can could may might must shall should will would ought need",
        quantifier="a all any some each every both either few many much more most less least "
        "several only half whole enough just even also too first last next other another same "
        "once twice",
        relation="to from in into out on onto off up down at by with before after between through "
        "over under above below for against about around per via within until till since during "
        "as than and or but if unless because while of back away again without",
        question="who whom whose what which when where why how",
        person="i me my mine we us our ours you your yours he him his she her hers it its they "
        "them their theirs someone anyone everyone this that these those",
        tense="is was be been being do did done have had has get got still yet already now ever",
        negation="not no never without none nobody nothing neither nor cannot hardly unable fails "
        "failed",
    ),
)
