"""What is known (section 3.1): artists, tracks, plays, relations, metadata, features."""

from undersong.catalogue.attributes import (
    ATTRIBUTES_FILE as ATTRIBUTES_FILE,
    Attributes as Attributes,
    make_attributes as make_attributes,
    read_attributes as read_attributes,
    write_attributes as write_attributes,
)
from undersong.catalogue.check import (
    LISTED as LISTED,
    ROW as ROW,
    Fault as Fault,
    Issues as Issues,
    Sheet as Sheet,
    check_catalogue as check_catalogue,
    empty_faults as empty_faults,
    empty_table as empty_table,
    find_issues as find_issues,
    id_faults as id_faults,
    issues_text as issues_text,
    member_faults as member_faults,
    number_faults as number_faults,
    path_faults as path_faults,
    play_faults as play_faults,
    refuse as refuse,
    relation_faults as relation_faults,
    shown as shown,
    split_faults as split_faults,
    vector_faults as vector_faults,
    whole as whole,
    width_faults as width_faults,
    write_failures as write_failures,
)
from undersong.catalogue.describe import (
    KindDescription as KindDescription,
    describe_catalogue as describe_catalogue,
    description_text as description_text,
    plot_relations as plot_relations,
    words_about as words_about,
)
from undersong.catalogue.heard import (
    Heard as Heard,
    read_heard as read_heard,
    write_heard as write_heard,
)
from undersong.catalogue.names import (
    Item as Item,
    Names as Names,
    fold as fold,
    name_key as name_key,
    read_ids as read_ids,
    select as select,
    suggest as suggest,
)
from undersong.catalogue.schema import (
    FIELD_TYPES as FIELD_TYPES,
    ITEMS as ITEMS,
    KINDS as KINDS,
    PLAYS as PLAYS,
    RELATIONS as RELATIONS,
    ROLES as ROLES,
    SERVICE as SERVICE,
    SPLITS as SPLITS,
    Field as Field,
    FieldType as FieldType,
    Kind as Kind,
    Origin as Origin,
    Role as Role,
    importing as importing,
    recorded_source as recorded_source,
)
from undersong.catalogue.splits import (
    SplitSettings as SplitSettings,
    draw_alike as draw_alike,
    linked as linked,
    split as split,
    tail_odds as tail_odds,
)
from undersong.catalogue.tables import (
    EXTRACTED as EXTRACTED,
    Catalogue as Catalogue,
    add_features as add_features,
    complete as complete,
    fingerprint as fingerprint,
    numbered as numbered,
    read_catalogue as read_catalogue,
    replacing_tables as replacing_tables,
    rows_of as rows_of,
    write_catalogue as write_catalogue,
)
