"""The rules of the data doctor, one a file; `RULES` has them in the order of the reference."""

from luthier.data.doctor.rules.answer_language import AnswerLanguage
from luthier.data.doctor.rules.answer_lost import AnswerLost
from luthier.data.doctor.rules.boundaries_doubled import BoundariesDoubled
from luthier.data.doctor.rules.broken_characters import BrokenCharacters
from luthier.data.doctor.rules.chosen_equals_rejected import ChosenEqualsRejected
from luthier.data.doctor.rules.chosen_one_layout import ChosenOneLayout
from luthier.data.doctor.rules.chosen_one_model import ChosenOneModel
from luthier.data.doctor.rules.columns_look_alike import ColumnsLookAlike
from luthier.data.doctor.rules.columns_unused import ColumnsUnused
from luthier.data.doctor.rules.content_lost import ContentLost
from luthier.data.doctor.rules.control_characters import ControlCharacters
from luthier.data.doctor.rules.control_markup import ControlMarkup
from luthier.data.doctor.rules.cut_at_seq_length import CutAtSeqLength
from luthier.data.doctor.rules.duplicate_rows import DuplicateRows
from luthier.data.doctor.rules.email_addresses import EmailAddresses
from luthier.data.doctor.rules.empty_answer import EmptyAnswer
from luthier.data.doctor.rules.empty_question import EmptyQuestion
from luthier.data.doctor.rules.encoding_not_utf8 import EncodingNotUtf8
from luthier.data.doctor.rules.ends_with_user import EndsWithUser
from luthier.data.doctor.rules.eos_missing import EosMissing
from luthier.data.doctor.rules.feedback_one_sided import FeedbackOneSided
from luthier.data.doctor.rules.few_rows import FewRows
from luthier.data.doctor.rules.file_unreadable import FileUnreadable
from luthier.data.doctor.rules.format_mixed import FormatMixed
from luthier.data.doctor.rules.format_uncertain import FormatUncertain
from luthier.data.doctor.rules.format_unknown import FormatUnknown
from luthier.data.doctor.rules.held_out_overlap import HeldOutOverlap
from luthier.data.doctor.rules.invisible_characters import InvisibleCharacters
from luthier.data.doctor.rules.language_mix import LanguageMix
from luthier.data.doctor.rules.leaked_keys import LeakedKeys
from luthier.data.doctor.rules.length_bias import LengthBias
from luthier.data.doctor.rules.longer_than_context import LongerThanContext
from luthier.data.doctor.rules.markup_of_another_model import MarkupOfAnotherModel
from luthier.data.doctor.rules.near_duplicates import NearDuplicates
from luthier.data.doctor.rules.no_answer import NoAnswer
from luthier.data.doctor.rules.no_target import NoTarget
from luthier.data.doctor.rules.no_user_turn import NoUserTurn
from luthier.data.doctor.rules.objective_mismatch import ObjectiveMismatch
from luthier.data.doctor.rules.one_word_answers import OneWordAnswers
from luthier.data.doctor.rules.pair_prompts_differ import PairPromptsDiffer
from luthier.data.doctor.rules.phone_numbers import PhoneNumbers
from luthier.data.doctor.rules.placeholders import Placeholders
from luthier.data.doctor.rules.python_lists_in_cells import PythonListsInCells
from luthier.data.doctor.rules.refusals import Refusals
from luthier.data.doctor.rules.role_unknown import RoleUnknown
from luthier.data.doctor.rules.roles_out_of_order import RolesOutOfOrder
from luthier.data.doctor.rules.row_unusable import RowUnusable
from luthier.data.doctor.rules.template_refuses import TemplateRefuses
from luthier.data.doctor.rules.tool_arguments import ToolArguments
from luthier.data.doctor.rules.tool_result_unmatched import ToolResultUnmatched
from luthier.data.doctor.rules.tool_schema_types import ToolSchemaTypes
from luthier.data.doctor.rules.tool_unknown import ToolUnknown
from luthier.data.doctor.rules.two_turns_in_a_row import TwoTurnsInARow

RULES = (
    FileUnreadable,
    EncodingNotUtf8,
    FormatUnknown,
    FormatUncertain,
    FormatMixed,
    ObjectiveMismatch,
    PythonListsInCells,
    ColumnsLookAlike,
    ColumnsUnused,
    FewRows,
    RowUnusable,
    EmptyAnswer,
    EmptyQuestion,
    NoAnswer,
    NoTarget,
    OneWordAnswers,
    Refusals,
    RoleUnknown,
    RolesOutOfOrder,
    TwoTurnsInARow,
    EndsWithUser,
    NoUserTurn,
    TemplateRefuses,
    ContentLost,
    ChosenEqualsRejected,
    PairPromptsDiffer,
    LengthBias,
    ChosenOneModel,
    ChosenOneLayout,
    FeedbackOneSided,
    DuplicateRows,
    NearDuplicates,
    HeldOutOverlap,
    CutAtSeqLength,
    AnswerLost,
    LongerThanContext,
    ControlMarkup,
    MarkupOfAnotherModel,
    BoundariesDoubled,
    EosMissing,
    Placeholders,
    ToolArguments,
    ToolUnknown,
    ToolResultUnmatched,
    ToolSchemaTypes,
    InvisibleCharacters,
    BrokenCharacters,
    ControlCharacters,
    LanguageMix,
    AnswerLanguage,
    LeakedKeys,
    EmailAddresses,
    PhoneNumbers,
)
"""Every rule, grouped by what it is about."""

__all__ = ["RULES"]
